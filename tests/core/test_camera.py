import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keylift.core.camera import Camera
from keylift.core.errors import FileFormatError

LENS = Camera((1920, 1080), (1500.0, 1490.0), (970.0, 530.0), (-0.12, 0.05, 0.001, -0.002, 0.01))


@given(st.floats(-1.2, 1.2), st.floats(-0.8, 0.8), st.floats(1, 20))
def test_rays_undo_the_projection(x, y, depth):
    x, y = x / 2, y / 2
    pixel = LENS.project(np.array([[x * depth, y * depth, depth]]))
    assert np.allclose(LENS.rays(pixel), [[x, y]], atol=1e-6)


def test_the_projection_is_opencvs():
    cv2 = pytest.importorskip("cv2")
    points = np.random.default_rng(0).uniform([-1, -1, 3], [1, 1, 6], (50, 3))
    matrix = np.array([[1500.0, 0, 970], [0, 1490, 530], [0, 0, 1]])
    theirs, _ = cv2.projectPoints(points, np.zeros(3), np.zeros(3), matrix, np.array(LENS.distortion))
    assert np.allclose(LENS.project(points), theirs[:, 0], atol=1e-6)


def test_points_behind_the_lens_are_not_seen():
    assert np.isnan(LENS.project(np.array([[0.0, 0, -1]]))).all()


def test_a_guessed_lens_sees_its_angle_along_the_longer_side():
    camera = Camera.guessed((1080, 1920), 60)
    assert np.allclose(camera.rays(np.array([[540.0, 1920.0]])), [[0, np.tan(np.radians(30))]])


def test_a_camera_file_in_pixels_and_in_millimetres(tmp_path):
    path = tmp_path / "camera.toml"
    path.write_text("width = 1000\nheight = 500\nfx = 800\ncx = 490\ndistortion = [0.1, 0.2]\n")
    camera = Camera.from_toml(path)
    assert camera.focal_px == (800, 800) and camera.centre_px == (490, 250)
    assert camera.distortion == (0.1, 0.2, 0, 0, 0)
    path.write_text("width = 3600\nheight = 2400\nfocal_mm = 50\nsensor_mm = 36\n")
    assert Camera.from_toml(path).focal_px == (5000, 5000)


@pytest.mark.parametrize(
    "text",
    ["", "width = 10", "width = 'x'\nheight = 5\nfx = 3", "width = 10\nheight = 5\nfx = -3", "not toml [", "a = 1",
     "width = 10\nheight = 10\nfx = nan", "width = 10\nheight = 10\nfx = 9\ndistortion = [1,2,3,4,5,6]"],
)  # fmt: skip
def test_a_bad_camera_file_is_explained(tmp_path, text):
    path = tmp_path / "camera.toml"
    path.write_text(text)
    with pytest.raises(FileFormatError):
        Camera.from_toml(path)


def test_a_missing_camera_file_is_explained(tmp_path):
    with pytest.raises(FileFormatError, match="--camera"):
        Camera.from_toml(tmp_path / "none.toml")


def test_a_camera_fits_footage_of_another_resolution_but_not_another_shape():
    half = LENS.resized((960, 540))
    assert half.focal_px == (750, 745) and half.centre_px == (485, 265)
    with pytest.raises(FileFormatError, match="shapes differ"):
        LENS.resized((1080, 1920))
