"""The one compiled module, where there is a compiler: without it the package installs as well, and is slower.

The module is told what it was made from, so that `ikeclient.esp.codec.choice` does without one that was not made anew.
A tree that may not be written to is built elsewhere.
"""

import os
import tempfile
from hashlib import sha256
from pathlib import Path

from setuptools import Extension, setup

HERE = Path(__file__).parent
SOURCES = (
    "ikeclient/esp/codec/_offload.pyx",
    "ikeclient/esp/codec/_coalesce.pxi",
    "ikeclient/esp/codec/_evp.pxi",
    "ikeclient/esp/codec/_filter.pxi",
    "ikeclient/esp/codec/_relay.pxi",
    "ikeclient/esp/codec/_run.pxi",
    "ikeclient/esp/codec/_single.pxi",
)
elsewhere = None if os.access(HERE, os.W_OK) else tempfile.TemporaryDirectory(prefix="ikeclient-build-")
options = {}
if elsewhere is not None:
    options = {"build": {"build_base": elsewhere.name}, "egg_info": {"egg_base": elsewhere.name}}

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
        extra_compile_args=["-O3", "-g0"],
        extra_link_args=["-s"],  # its symbols would be most of it
    )
    where = None if elsewhere is None else elsewhere.name
    # Times of files tell nothing of their content.
    modules = cythonize([extension], language_level=3, force=True, build_dir=where)
    for module in modules:
        module.optional = True  # cythonize forgets it

setup(ext_modules=modules, options=options)
