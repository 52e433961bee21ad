"""The measures of scripts/gpu_check, each of them run in a process of its own."""
