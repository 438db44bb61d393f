// SPDX-License-Identifier: Apache-2.0
// A free list, shuffled once.
#include "tools/engine/block_allocator.hpp"

#include "tools/engine/random.hpp"

#include <limits>
#include <numeric>
#include <stdexcept>
#include <utility>

namespace kvferry::engine {

block_allocator::block_allocator(std::string name, std::size_t slot_count, std::uint64_t seed)
    : name_(std::move(name)) {
    if (slot_count > std::numeric_limits<std::uint32_t>::max())
        throw std::invalid_argument("KV pool of " + name_ + ": " + std::to_string(slot_count)
                                    + " slots do not fit 32-bit slot numbers");
    free_.resize(slot_count);
    in_use_.resize(slot_count);
    std::iota(free_.begin(), free_.end(), 0U);
    splitmix64 numbers(seed);
    for (std::size_t left = slot_count; left > 1; --left)
        std::swap(free_[left - 1], free_[numbers.next() % left]);
}

void block_allocator::require(std::size_t count) const {
    if (count > free_.size())
        throw std::runtime_error("KV pool of " + name_ + " is full: " + std::to_string(count)
                                 + " slots asked, " + std::to_string(free_.size()) + " of "
                                 + std::to_string(in_use_.size()) + " free");
}

std::vector<std::uint32_t> block_allocator::allocate(std::size_t count) {
    require(count);
    std::vector<std::uint32_t> slots(free_.rbegin(),
                                     free_.rbegin() + static_cast<std::ptrdiff_t>(count));
    free_.resize(free_.size() - count);
    for (auto slot : slots)
        in_use_[slot] = true;
    return slots;
}

void block_allocator::release(std::span<const std::uint32_t> slots) {
    std::vector<bool> left = in_use_;
    for (auto slot : slots) {
        if (slot >= left.size() || !left[slot])
            throw std::invalid_argument("KV pool of " + name_ + ": slot " + std::to_string(slot)
                                        + " of " + std::to_string(left.size())
                                        + " is released but not in use");
        left[slot] = false;
    }
    in_use_ = std::move(left);
    free_.insert(free_.end(), slots.begin(), slots.end());
}

} // namespace kvferry::engine
