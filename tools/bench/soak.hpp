// SPDX-License-Identifier: Apache-2.0
// Whether ended sessions leave memory behind: very many of them, ended in every way, one process.
#pragma once

#include "messages/errors.hpp"

#include <cstdint>
#include <string>

namespace kvferry::bench {

struct soak_result {
    /// Counted after the warm-up; both sides of a request together.
    std::uint64_t requests = 0;
    /// Children that were forked off meanwhile, in the middle of a round of requests.
    std::uint64_t forks = 0;
    /// On the heap, after the warm-up and at the end.
    std::uint64_t heap_bytes_before = 0;
    std::uint64_t heap_bytes_after = 0;

    double bytes_per_request() const {
        return (static_cast<double>(heap_bytes_after) - static_cast<double>(heap_bytes_before))
               / static_cast<double>(requests);
    }
    /// Less is noise: what one forgotten session takes is far more.
    static constexpr double bytes_per_request_max = 100;
    bool grew() const { return bytes_per_request() > bytes_per_request_max; }
};

/// Requests between two ranks of a loopback world, a quarter each: successful, failed, cancelled by
/// the host, refused by the sender. Fails when one of them ends otherwise, or when a forked child
/// gets another answer than `unsupported`, about its parent's sessions or about new ones.
caf::expected<soak_result> run_soak(std::uint64_t requests);

std::string text_of(const soak_result&);
std::string json_of(const soak_result&);

} // namespace kvferry::bench
