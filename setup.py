"""The one compiled module, where there is a compiler: without it the package installs as well, and is slower."""

from setuptools import Extension, setup

try:
    from Cython.Build import cythonize
except ImportError:
    modules = []
else:
    extension = Extension(
        "ikeclient.esp.codec._offload",
        ["ikeclient/esp/codec/_offload.pyx"],
        depends=["ikeclient/esp/codec/_coalesce.pxi"],
        extra_compile_args=["-O3"],
    )
    modules = cythonize([extension], language_level=3)
    for module in modules:
        module.optional = True  # cythonize forgets it

setup(ext_modules=modules)
