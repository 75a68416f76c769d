"""Videos: their frames, who is who in them, and all frames placed together."""

from crowdmesh.video.frames import Frame, read_frames
from crowdmesh.video.run import VideoConfig, VideoResult, reconstruct_video
from crowdmesh.video.tracking import Tracker, TrackingConfig

__all__ = ["Frame", "Tracker", "TrackingConfig", "VideoConfig", "VideoResult", "read_frames", "reconstruct_video"]
