"""The flat public calls, re-exported by `genprm`. Each is a thin synchronous front of the asynchronous library.

They work in a script, in a notebook's running event loop and from several threads; an engine that is passed to several
calls keeps its connections and caches between them.
"""
