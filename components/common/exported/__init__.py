"""Files for other runtimes: what they take and give, and checks before such a runtime opens one."""
