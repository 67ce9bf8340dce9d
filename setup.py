"""The one thing that pyproject.toml can't say: of the root's modules only the two doors are part of the package."""

from setuptools import setup
from setuptools.command.build_py import build_py

BESIDE_THE_PACKAGE = {"dev", "setup"}


class DoorsAndRooms(build_py):
    """``build_py`` takes every module that lies in a package's folder, and the root is one."""

    def find_package_modules(self, package: str, package_dir: str) -> list[tuple[str, str, str]]:
        """(package, module, file) of each module, without those for whoever has the checkout."""
        return [
            found for found in super().find_package_modules(package, package_dir) if found[1] not in BESIDE_THE_PACKAGE
        ]


setup(cmdclass={"build_py": DoorsAndRooms})
