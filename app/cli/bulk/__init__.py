"""Answers many images from the command line: in this process, or through a running server.

`files` finds and reads them, `workers` answers them in order with `local` or `remote`, `writers`
and `embeddings_file` write the answers, and `run` holds it together.
"""
