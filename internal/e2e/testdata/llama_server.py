"""Serve a GGUF by llama.cpp's own HTTP server, as the package xllamacpp carries it.

usage: llama_server.py MODEL.gguf PORT SLOTS
"""
import sys
import time

import xllamacpp

params = xllamacpp.CommonParams()
params.model.path = sys.argv[1]
params.model_alias = {"tiny-script"}
params.hostnames = ["127.0.0.1"]
params.port = int(sys.argv[2])
params.n_parallel = int(sys.argv[3])
params.n_ctx = 1024 * params.n_parallel
params.endpoint_metrics = True
params.cpuparams.n_threads = 1
server = xllamacpp.Server(params)
print("listening on", server.listening_address, flush=True)
time.sleep(1e9)
