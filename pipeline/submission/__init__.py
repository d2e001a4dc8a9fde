"""`mobanet pipeline submit`: start the graph on a cluster as a run or recurring run, and follow a run.

submission.py  what to send, checked before anything is sent
api.py         the Kubeflow Pipelines API: retries, error messages, no duplicates
send.py        submission -> pipeline, version, experiment, run
follow.py      follow a run to its end
"""
