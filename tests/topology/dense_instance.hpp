// SPDX-License-Identifier: Apache-2.0
// Instances of real workers in this process whose pools hold parts of a dense model.
#pragma once

#include "actors/host/loopback_world.hpp"
#include "actors/host/runtime.hpp"
#include "messages/type_ids.hpp"
#include "tests/topology/dense_cache.hpp"
#include "transport/host_link/memfd_pool.hpp"
#include "transport/planner/layout/cohorts.hpp"
#include "transport/planner/layout/topology.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

namespace kvferry::testing {

inline std::string text_of_error(const caf::error& error) {
    return error ? kvferry::describe(error) : std::string{};
}

class dense_instance {
public:
    struct member {
        dense_rank rank;
        memfd_pool memory;
        worker transfers;
    };

    dense_instance(runtime& system, const std::string& name, const dense_cache& cache,
                   const dense_side& side, const worker_options& base, random_engine& random)
        : cache_(cache) {
        std::string endpoint;
        for (auto& rank : make_dense_ranks(name, cache, side, random)) {
            auto options = base;
            options.instance = name;
            options.layout = rank.info.layout;
            options.info_endpoint = endpoint;
            auto memory = memfd_pool::make(name, rank.region_bytes);
            REQUIRE_MESSAGE(memory, text_of_error(memory ? caf::error{} : memory.error()));
            std::memset(memory->base(), untouched, memory->bytes());
            auto started = system.start_worker(options);
            REQUIRE_MESSAGE(started, text_of_error(started ? caf::error{} : started.error()));
            if (endpoint.empty())
                endpoint = started->info_endpoint();
            members_.push_back({std::move(rank), std::move(*memory), std::move(*started)});
        }
        for (auto& x : members_) {
            auto published = x.transfers.publish(
                {{x.memory.base(), x.memory.bytes(), memory_kind::host_shared, x.memory.fd()}},
                *x.rank.info.pages);
            REQUIRE_MESSAGE(published, text_of_error(published ? caf::error{} : published.error()));
            infos_.push_back(std::move(*published));
        }
    }

    static constexpr std::uint8_t untouched = 0xa5;

    std::vector<member>& members() { return members_; }
    const std::vector<rank_info>& infos() const { return infos_; }
    const std::string& endpoint() const { return members_[0].transfers.info_endpoint(); }

    void fill(const member& x, const kv_slice& slice) const {
        auto* bytes = reinterpret_cast<std::uint8_t*>(x.memory.base());
        for_each_dense_byte(
            cache_, x.rank, slice,
            [bytes](std::uint64_t at, std::uint8_t value, auto, auto) { bytes[at] = value; });
    }

    void clear(const member& x) const { std::memset(x.memory.base(), untouched, x.memory.bytes()); }

    /// Counts wrong bytes: they differ from the model, or changed although they were not to be
    /// written. `is_wanted(group, token)`: the context has this token.
    template <class F>
    std::uint64_t wrong_bytes(const member& x, const kv_slice& slice, F is_wanted) const {
        std::vector<std::uint8_t> expected(x.memory.bytes(), untouched);
        for_each_dense_byte(
            cache_, x.rank, slice,
            [&](std::uint64_t at, std::uint8_t value, std::uint32_t group, std::uint32_t token) {
                if (is_wanted(group, token))
                    expected[at] = value;
            });
        const auto* bytes = reinterpret_cast<const std::uint8_t*>(x.memory.base());
        std::uint64_t wrong = 0;
        for (std::size_t at = 0; at < expected.size(); ++at)
            wrong += bytes[at] != expected[at];
        return wrong;
    }

private:
    const dense_cache& cache_;
    std::vector<member> members_;
    std::vector<rank_info> infos_;
};

} // namespace kvferry::testing
