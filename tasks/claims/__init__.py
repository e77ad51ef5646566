"""The papers' claims, tried: arms x seeds as a sweep, measured, and a verdict that is computed."""
