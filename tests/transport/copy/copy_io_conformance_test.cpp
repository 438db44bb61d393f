// SPDX-License-Identifier: Apache-2.0
// copy_io keeps the promises of copy actors.
#include "tests/transport/copy/copy_conformance.hpp"
#include "transport/copy/copy_io.hpp"

namespace kvferry::testing {

struct copy_io_kit : copy_loop {
    using memory = host_memory;
    static constexpr std::size_t long_copy_bytes = std::size_t{2} << 20;

    copy_io_kit() {
        limits bounds;
        bounds.copy_piece_bytes_max = std::size_t{64} << 10;
        keep(spawn_copy_io(system(), placement{&loop()}, {bounds}));
    }
};

} // namespace kvferry::testing

TYPE_TO_STRING(kvferry::testing::copy_io_kit);
KVFERRY_COPY_CONFORMANCE(copy_io_kit)
