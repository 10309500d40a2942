"""Point clouds on the host: meshes, files of points, shapes made by formula."""

from perceiver_jax.data.point_clouds.config import PointCloudDataConfig
from perceiver_jax.data.point_clouds.files import read_cloud
from perceiver_jax.data.point_clouds.picture import draw_cloud
from perceiver_jax.data.point_clouds.surfaces import draw_points

__all__ = ["PointCloudDataConfig", "draw_cloud", "draw_points", "read_cloud"]
