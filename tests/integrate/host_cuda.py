"""A stand-in for CuPy on machines without a GPU: CUDA C run by the processor.

`RawModule` compiles the kernels with the C++ compiler of the machine, CUDA's own words defined as
what they mean for one thread, and runs the threads one after the other. 2**x, log and division
are as coarse as those of a GPU's hardware, by the CUDA C++ Programming Guide. `DeviceArray` is as
strict as CuPy's array: it becomes a NumPy array by `get` only, and does not mix with one.
"""

import ctypes
import shutil
import subprocess
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np

COMPILER = shutil.which("c++")

CUDA = """
#include <cmath>
#include <cstring>
#define __global__
#define __launch_bounds__(...)
using std::isinf; using std::isnan;
static struct { int x; } blockIdx, blockDim, threadIdx;
static int __float_as_int(float a) { int b; std::memcpy(&b, &a, 4); return b; }
static float __int_as_float(int a) { float b; std::memcpy(&b, &a, 4); return b; }
// two units in the last place too much or too little, as the bits happen to be
static float coarse(float a) {
  if (a == 0 || isinf(a) || isnan(a)) return a;
  const int bits = __float_as_int(a);
  return __int_as_float(bits + ((bits * 2654435761u) >> 31 ? 2 : -2));
}
static float __fdividef(float a, float b) { return coarse(a / b); }
static float gpu_exp2(float a) { return coarse(std::exp2(a)); }
static float gpu_log(float a) { return coarse(std::log(a)); }
#define exp2f gpu_exp2
#define logf gpu_log
"""

LAUNCH = """
extern "C" void launch_{name}(int grid, int block, {parameters}) {{
  blockDim.x = block;
  for (blockIdx.x = 0; blockIdx.x < grid; ++blockIdx.x)
    for (threadIdx.x = 0; threadIdx.x < block; ++threadIdx.x)
      {name}({arguments});
}}
"""


def _bare(value):
    if isinstance(value, np.ndarray) and value.ndim:
        raise TypeError("Unsupported type <class 'numpy.ndarray'>")
    if isinstance(value, list | tuple):
        return type(value)(map(_bare, value))
    return value.array if isinstance(value, DeviceArray) else value


def _wrapped(value):
    if isinstance(value, list | tuple):
        return type(value)(map(_wrapped, value))
    return DeviceArray(value) if isinstance(value, np.ndarray | np.generic) else value


class DeviceArray(np.lib.mixins.NDArrayOperatorsMixin):
    """An array on the GPU."""

    def __init__(self, array):
        self.array = np.asarray(array)

    def get(self):
        return self.array.copy()

    def __array__(self, *_, **__):
        raise TypeError("Implicit conversion to a NumPy array is not allowed")

    def __array_ufunc__(self, ufunc, method, *inputs, out=(), **options):
        if out:
            options["out"] = _bare(out)
        return _wrapped(getattr(ufunc, method)(*_bare(inputs), **options))

    def __array_function__(self, function, _, inputs, options):
        return _wrapped(function(*_bare(inputs), **options))

    def __int__(self):
        return int(self.array)

    def __getitem__(self, index):
        return _wrapped(self.array[index])

    def take(self, index, axis):
        return _wrapped(self.array.take(index, axis=axis))

    def any(self, axis=None):
        return _wrapped(self.array.any(axis=axis))

    def all(self, axis=None):
        return _wrapped(self.array.all(axis=axis))

    def ravel(self):
        return _wrapped(self.array.ravel())

    def reshape(self, *shape):
        return _wrapped(self.array.reshape(*shape))

    @property
    def T(self):
        return _wrapped(self.array.T)

    shape = property(lambda self: self.array.shape)
    size = property(lambda self: self.array.size)
    ndim = property(lambda self: self.array.ndim)


class RawModule:
    def __init__(self, *, code, options):
        assert all(o.startswith("--") for o in options)
        text = CUDA + code
        for declaration in code.split('extern "C"')[1:]:
            name, parameters = declaration.split("{")[0].rsplit("(", 1)
            name = name.split()[-1]
            names = [p.replace("*", " ").split()[-1] for p in parameters.strip(" )\n").split(",")]
            text += LAUNCH.format(
                name=name, parameters=parameters.strip(" )\n"), arguments=", ".join(names)
            )
        with tempfile.TemporaryDirectory() as folder:
            source, library = Path(folder, "kernel.cpp"), Path(folder, "kernel.so")
            source.write_text(text)
            command = [COMPILER, "-O1", "-w", "-shared", "-fPIC", "-o", library, source]
            subprocess.run(command, check=True)
            self._library = ctypes.CDLL(str(library))

    def get_function(self, name):
        function = getattr(self._library, f"launch_{name}")

        def launch(grid, block, arguments):
            function(
                *grid,
                *block,
                *(
                    ctypes.c_void_p(_contiguous(a)) if isinstance(a, DeviceArray) else int(a)
                    for a in arguments
                ),
            )

        return launch


def _contiguous(a):
    assert a.array.flags.c_contiguous
    return a.array.ctypes.data


def cupy():
    """A module that stands in for CuPy."""

    def asarray(array, dtype=None):
        return DeviceArray(np.asarray(getattr(array, "array", array), dtype))

    return SimpleNamespace(
        RawModule=RawModule,
        asarray=asarray,
        ascontiguousarray=lambda a: DeviceArray(np.ascontiguousarray(_bare(a))),
        concatenate=lambda arrays: _wrapped(np.concatenate(_bare(arrays))),
        cumsum=lambda a, dtype: _wrapped(np.cumsum(_bare(a), dtype=dtype)),
        empty=lambda shape, dtype: DeviceArray(np.empty(shape, dtype)),
        split=lambda a, places: _wrapped(np.split(_bare(a), places)),
        cuda=SimpleNamespace(
            is_available=lambda: True,
            Device=lambda: SimpleNamespace(id=0, attributes={"MultiProcessorCount": 1}),
            runtime=SimpleNamespace(getDeviceProperties=lambda _: {"name": b"the processor"}),
        ),
    )
