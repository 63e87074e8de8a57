#!/usr/bin/env python
"""Write a synthetic time-lapse of rod-shaped cyanobacteria as ND2 and as ImageJ TIF."""
