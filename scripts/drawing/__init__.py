"""How the portraits that the project draws itself are made: by scripts/draw_portraits alone."""
