"""Data sets to train on: one reader a layout, and a catalogue that finds them below a folder."""
