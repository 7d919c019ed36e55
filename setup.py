"""The one compiled module, where there is a compiler: without it the package installs as well, and is slower.

The module is told what it was made from, so that `ikeclient.esp.codec.choice` does without one that was not made anew.
"""

from hashlib import sha256
from pathlib import Path

from setuptools import Extension, setup

HERE = Path(__file__).parent
SOURCES = ("ikeclient/esp/codec/_offload.pyx", "ikeclient/esp/codec/_coalesce.pxi", "ikeclient/esp/codec/_evp.pxi")

try:
    from Cython.Build import cythonize
except ImportError:
    modules = []
else:
    digest = sha256(b"".join((HERE / name).read_bytes() for name in SOURCES)).hexdigest()[:16]
    extension = Extension(
        "ikeclient.esp.codec._offload",
        [SOURCES[0]],
        depends=list(SOURCES[1:]),
        libraries=["dl"],  # dlopen, before glibc 2.34
        define_macros=[("OFFLOAD_SOURCES", f'"{digest}"')],
        extra_compile_args=["-O3"],
    )
    modules = cythonize([extension], language_level=3, force=True)  # times of files tell nothing of their content
    for module in modules:
        module.optional = True  # cythonize forgets it

setup(ext_modules=modules)
