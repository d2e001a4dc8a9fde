"""`mobanet pipeline submit`: start the graph on a cluster as a run or recurring run, and follow a run.

plan.py    the submission, checked before anything is sent
server.py  the Kubeflow Pipelines API: retries, error messages, no duplicates
send.py    plan -> pipeline, version, experiment, run
watch.py   follow a run to its end
"""
