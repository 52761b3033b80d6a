"""Video: probing, frames at given times, clips, and its place on the sensors' clock."""
