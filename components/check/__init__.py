"""Raw tiles -> what is wrong with them: every file opened, every known trap looked for, one report."""
