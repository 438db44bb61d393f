// SPDX-License-Identifier: Apache-2.0
// What the two child processes do; each runs until ordered to quit or until its time is up.
#pragma once

#include "board.hpp"

namespace experiment {

/// No child outlives this, whatever happens to the referee.
inline constexpr std::chrono::seconds child_life_max = 30s;

void run_writer(board& shared, shared_memory& region);
void run_target(board& shared, shared_memory& region);

/// How the writer of the memfd cases is built.
enum class mapped_writer : std::uint32_t {
    threads,          ///< four threads write, the main thread too
    leader_exits,     ///< the main thread ends by pthread_exit, the others go on
    system_calls,     ///< five threads write by process_vm_writev, as UCX's CMA does
    heir,             ///< a forked child inherits the mapping and goes on writing
    heir_without_map, ///< the same with MADV_DONTFORK on the mapping
};
void run_mapped_writer(board& shared, shared_memory& region, mapped_writer kind);

} // namespace experiment
