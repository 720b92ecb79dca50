#include "../kernels/csr.h"

#include "bind.h"

namespace {

int check_edges(uintptr_t src, uintptr_t dst, bool wide, int64_t edges, int64_t num_src,
                int64_t num_dst, int threads) {
  const EdgesArgs args{at(src), at(dst), wide, edges, num_src, num_dst, usable(threads)};
  nb::gil_scoped_release unlocked;
  return GK_PICK(check_edges)(args);
}

CsrArgs csr_args(uintptr_t rows, uintptr_t columns, bool wide, bool idx64, bool eid64, bool sorted,
                 int64_t edges, int64_t num_rows, int threads) {
  CsrArgs args{};
  args.rows = at(rows);
  args.columns = at(columns);
  args.wide = wide;
  args.idx64 = idx64;
  args.eid64 = eid64;
  args.sorted = sorted;
  args.edges = edges;
  args.num_rows = num_rows;
  args.threads = usable(threads);
  return args;
}

void csr(CsrArgs args, uintptr_t ptr, uintptr_t idx, uintptr_t eid, uintptr_t scratch) {
  args.ptr = static_cast<int64_t*>(fresh(ptr, 8 * (args.num_rows + 1)));
  args.idx = fresh(idx, (args.idx64 ? 8 : 4) * args.edges);
  args.eid = fresh(eid, (args.eid64 ? 8 : 4) * args.edges);
  args.scratch = fresh(scratch, GK_PICK(csr_scratch)(args));
  nb::gil_scoped_release unlocked;
  GK_PICK(csr)(args);
}

void self_loops(const Side& side, uintptr_t count, uintptr_t mask, int64_t edges, int threads) {
  LoopsArgs args{};
  args.side = side;
  args.count = static_cast<int64_t*>(to(count));
  args.mask = static_cast<bool*>(mask ? fresh(mask, edges) : nullptr);
  args.threads = usable(threads);
  nb::gil_scoped_release unlocked;
  GK_PICK(self_loops)(args);
}

bool row_ids(uintptr_t ptr, int64_t rows, int64_t edges, uintptr_t out, int threads) {
  const RowIdsArgs args{static_cast<const int64_t*>(at(ptr)), rows, edges,
                        static_cast<int64_t*>(fresh(out, 8 * edges)), usable(threads)};
  if (args.ptr[0] != 0 || args.ptr[rows] != edges) return false;
  nb::gil_scoped_release unlocked;
  GK_PICK(row_ids)(args);
  return true;
}

}  // namespace

void bind_csr(nb::module_& m) {
  m.attr("OUT_OF_RANGE") = static_cast<int>(kOutOfRange);
  m.attr("SORTED_BY_SRC") = static_cast<int>(kSortedBySrc);
  m.attr("SORTED_BY_DST") = static_cast<int>(kSortedByDst);
  nb::class_<CsrArgs>(m, "CsrArgs").def(
      "__init__",
      [](CsrArgs* args, uintptr_t rows, uintptr_t columns, bool wide, bool idx64, bool eid64,
         bool sorted, int64_t edges, int64_t num_rows, int threads) {
        new (args) CsrArgs(
            csr_args(rows, columns, wide, idx64, eid64, sorted, edges, num_rows, threads));
      });
  m.def("check_edges", &check_edges);
  m.def("csr_scratch", [](const CsrArgs& args) { return GK_PICK(csr_scratch)(args); });
  m.def("csr", &csr);
  m.def("self_loops", &self_loops);
  m.def("row_ids", &row_ids);
}
