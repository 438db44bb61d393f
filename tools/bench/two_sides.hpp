// SPDX-License-Identifier: Apache-2.0
// Both sides of a benchmark: the context in a child process, the generation side in this one.
#pragma once

#include "tools/bench/generation_side.hpp"
#include "tools/bench/helper.hpp"
#include "tools/bench/schedule.hpp"

#include <cstdint>
#include <optional>
#include <string>

namespace kvferry::bench {

class two_sides {
public:
    /// The network devices are those of loopback, unless UCX_NET_DEVICES names others.
    caf::error start(const bench_options&, const bench_shape&);

    /// Dials, and faults in every page of the runtime's mapping.
    caf::error sweep();

    const schedule& plan() const { return *plan_; }
    helper& context() { return *context_; }
    generation_side& own() { return *own_; }
    /// Of the context's instance.
    const std::string& endpoint() const { return endpoint_; }

    /// Nothing of earlier rounds is left in the memory of this side.
    void clear();
    /// Regions of these transfers that do not hold here what the context has.
    std::uint64_t count_wrong(std::uint64_t first, std::uint64_t count);

    /// Also after a start that has failed.
    caf::error stop();

private:
    std::optional<schedule> plan_;
    std::optional<helper> context_;
    std::optional<runtime> actors_;
    std::optional<generation_side> own_;
    std::string endpoint_;
};

} // namespace kvferry::bench
