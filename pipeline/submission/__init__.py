"""`mobanet pipeline submit`: the graph on a cluster, as a run, a recurring run, and a table of tasks while one runs.

plan.py    what is to be sent, checked before anything is sent
server.py  the API of Kubeflow Pipelines: retries, refusals, nothing made twice
send.py    plan -> pipeline, version, experiment, run
watch.py   a run until its end
"""
