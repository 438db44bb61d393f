// SPDX-License-Identifier: Apache-2.0
#include "tools/common/pool_rank.hpp"

#include "transport/planner/page_table/page_table_builder.hpp"

#include <utility>

namespace kvferry::tools {

caf::expected<worker> start_published(runtime& actors, worker_options options,
                                      const host_region& memory, const page_table& pages) {
    auto made = actors.start_worker(std::move(options));
    if (!made)
        return std::move(made.error());
    if (auto published = made->publish({memory}, pages); !published)
        return std::move(published.error());
    return std::move(*made);
}

caf::expected<pool_rank> pool_rank::start(runtime& actors, worker_options options,
                                          const caf::expected<page_table>& pages) {
    if (!pages)
        return pages.error();
    auto memory =
        memfd_pool::make_best(options.instance, footprint_bytes(pages->pools.front()), false);
    if (!memory)
        return std::move(memory.error());
    const host_region region{memory->base(), memory->bytes(), memory_kind::host_shared,
                             memory->fd()};
    auto made = start_published(actors, std::move(options), region, *pages);
    if (!made)
        return std::move(made.error());
    return pool_rank{std::move(*memory), std::move(*made)};
}

} // namespace kvferry::tools
