"""What one may choose: declarations, how a config resolves to them, and the command lines.

Nothing here reaches a result but through flags, which carry every resolved value: the code digest
leaves this package out (record/digest.py). Nothing here imports torch.
"""
