// SPDX-License-Identifier: Apache-2.0
// A rank with its memory, ready for requests: for tools that are their own hosts.
#pragma once

#include "actors/host/runtime.hpp"
#include "messages/values/page_table.hpp"
#include "transport/host_link/memfd_pool.hpp"

namespace kvferry::tools {

/// The region is to outlive the worker.
caf::expected<worker> start_published(runtime&, worker_options, const host_region&,
                                      const page_table&);

/// All of its cache lies in one memfd, with the pages that the machine has.
struct pool_rank {
    memfd_pool memory;
    worker transfers;

    /// The table has one pool.
    static caf::expected<pool_rank> start(runtime&, worker_options,
                                          const caf::expected<page_table>&);
};

} // namespace kvferry::tools
