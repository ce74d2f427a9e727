"""Many images from the command line: in this process, or through a running server.

`files` finds them, `pipeline` answers them in order with `local` or `remote`, `formats` and
`archive` write the answers.
"""
