"""Adds the cffi extension to what pyproject.toml declares."""

from setuptools import setup

setup(
    cffi_modules=["csrc/build_kernels.py:ffibuilder"],
    options={"bdist_wheel": {"py_limited_api": "cp310"}},  # cffi builds the extension for the stable ABI
)
