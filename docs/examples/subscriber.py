#!/usr/bin/env python3
"""Prints the events of a node as they come: subscriber.py [/run/depsys]"""
import sys
import msgpack
import zmq

run = sys.argv[1] if len(sys.argv) > 1 else "/run/depsys"
events = zmq.Context().socket(zmq.SUB)
events.connect(f"ipc://{run}/busd.pub")
events.subscribe("")
while True:
    topic, header, body = events.recv_multipart()
    print(topic.decode(), msgpack.unpackb(header)["source"], msgpack.unpackb(body), flush=True)
