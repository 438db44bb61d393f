// SPDX-License-Identifier: Apache-2.0
// A plain TCP socket between the two processes, with nothing of ours: what the tcp wire is compared
// with.
//
// The generation side asks for a transfer; the context side gathers its pieces out of its pool, and
// the generation side scatters them into its own. One thread on each side, which blocks.
#pragma once

#include "messages/errors.hpp"
#include "tools/bench/generation_side.hpp"
#include "tools/bench/schedule.hpp"
#include "transport/loop/unique_fd.hpp"

#include <caf/expected.hpp>

#include <cstddef>
#include <cstdint>
#include <string>

namespace kvferry::bench {

class raw_socket {
public:
    /// For the context side; an empty host: on this machine only.
    static caf::expected<raw_socket> listen(const std::string& host);
    std::uint16_t port() const;
    static caf::expected<raw_socket> connect(const std::string& host, std::uint16_t port);

    /// Answers for `count` transfers beginning with number `first`, one after the other.
    caf::error answer(const std::byte* pool, const schedule&, std::uint64_t first,
                      std::uint64_t count);

    /// Asks for them, `in_flight` at a time.
    caf::expected<round_times> ask(std::byte* pool, const schedule&, std::uint64_t first,
                                   std::uint64_t count, std::uint32_t in_flight);

private:
    explicit raw_socket(unique_fd fd) : fd_(std::move(fd)) {}

    caf::error accept();

    /// The connection; of a side that listens, the listening socket until somebody has come.
    unique_fd fd_;
    bool listens_ = false;
};

} // namespace kvferry::bench
