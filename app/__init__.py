"""Serves MobileNet V1 over HTTP.

A request walks down through these packages, and back once:

1. `server.connection` bounds its head and framing, and the client's time, inside uvicorn.
2. `api.middleware.request_context` opens its record: the id, the clock, the log line, the metrics.
3. `api.middleware.authorization` asks for an API key, unless its route is declared public.
4. `api.middleware.admission` refuses what the queue cannot take, and bounds the body of the rest.
5. `api.routes` translates its protocol, and `api.bodies` reads the images.
6. `inference.service` looks each image up in `inference.cache`, or joins an equal one in flight.
7. `inference.pipeline` admits the others by predicted cost, and takes each through the next two.
8. `inference.decoding` turns bytes into pixels, in a thread.
9. `inference.batcher` queues the pixels; a free stream runs a batch of them on a `model` engine.
10. `api.routes` writes the answer, and `telemetry` tells what it took.

`cli` starts the server, or does the same work on files; `errors` and `settings` are for all.
"""

__version__ = "0.1.0"
