"""What runs inside the box. Standard library only: it is started without site-packages and without genprm.

The package is imported twice: as `box` by the interpreter that `genprm.sandbox.worker` starts, and as
`genprm.sandbox.box` by the host, which shares the frame format and the import tiers with it.
"""
