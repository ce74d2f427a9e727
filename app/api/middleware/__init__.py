"""Plain ASGI classes that every request passes before its route, outermost first.

`RequestContext` opens the record and reports the outcome, `Authorization` asks for a key, and
`AdmissionControl` refuses what the service cannot take and bounds the body of what it can.
"""
