// SPDX-License-Identifier: Apache-2.0
// Which slots of one rank's pool are free; hands them out scattered, as after long serving.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace kvferry::engine {

/// The order is a function of the seed and of the calls made, so a run can be repeated.
class block_allocator {
public:
    /// `name` stands in error messages, e.g. "rank 3".
    block_allocator(std::string name, std::size_t slot_count, std::uint64_t seed);

    /// Throws std::runtime_error naming what was asked, what is free and the total.
    void require(std::size_t count) const;

    /// All `count` slots, or none and the error of require().
    std::vector<std::uint32_t> allocate(std::size_t count);

    /// Throws std::invalid_argument for a slot that is not handed out; then nothing is released.
    void release(std::span<const std::uint32_t> slots);

    std::size_t free_count() const noexcept { return free_.size(); }

private:
    std::string name_;
    std::vector<std::uint32_t> free_; // the next slot is the last element
    std::vector<bool> in_use_;
};

} // namespace kvferry::engine
