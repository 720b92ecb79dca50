#include "../kernels/rows.h"

#if defined(_OPENMP)
#include <omp.h>
#endif

#include "bind.h"

namespace {

void take_rows(uintptr_t x, uintptr_t index, bool idx64, uintptr_t out, int64_t rows, int64_t bytes,
               int64_t x_stride, int64_t out_stride, bool is_new, int threads) {
  const RowsArgs args{at(x),      at(index), fresh(out, rows * out_stride), rows,  bytes, x_stride,
                      out_stride, idx64,     is_new, usable(threads)};
  nb::gil_scoped_release unlocked;
  GK_PICK(take_rows)(args);
}

}  // namespace

void bind_rows(nb::module_& m) {
  m.def("take_rows", &take_rows);
  // of the calling thread alone; torch asks the same runtime
  m.def("work_alone", [] {
#if defined(_OPENMP)
    omp_set_num_threads(1);
#endif
  });
}
