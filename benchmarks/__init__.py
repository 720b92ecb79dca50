"""Speed and accuracy figures; run.py measures an entry of a folder below this one."""
