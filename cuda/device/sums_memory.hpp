// SPDX-License-Identifier: Apache-2.0
// Pinned memory into which launches write the sums that they have made. Needs the toolkit's
// headers.
#pragma once

#include "cuda/device/device_handles.hpp"
#include "messages/values/plan_digest.hpp"

#include <cstddef>
#include <cstdint>
#include <vector>

namespace kvferry {

/// Serves one device, on one thread.
class sums_memory {
public:
    /// For launches of at most so many blocks.
    caf::error reserve(std::uint32_t blocks) {
        numbers_ = std::size_t{blocks} * 2 * digest_parts_max;
        return take_more(places_reserved);
    }

    /// Room for one launch.
    caf::expected<std::uint64_t*> take() {
        if (free_.empty())
            if (auto error = take_more(1))
                return error;
        auto* result = free_.back();
        free_.pop_back();
        return result;
    }

    void give_back(std::uint64_t* x) {
        if (x)
            free_.push_back(x);
    }

private:
    /// Most launches that are under way at a time, as a rule: 16 KiB each at 64 multiprocessors.
    static constexpr std::size_t places_reserved = 64;

    caf::error take_more(std::size_t places) {
        auto memory = make_pinned_memory(places * numbers_ * sizeof(std::uint64_t));
        if (!memory)
            return std::move(memory.error());
        auto* first = reinterpret_cast<std::uint64_t*>(memory->get());
        for (std::size_t place = 0; place < places; ++place)
            free_.push_back(first + place * numbers_);
        owned_.push_back(std::move(*memory));
        return {};
    }

    std::size_t numbers_ = 0;
    std::vector<unique_pinned_memory> owned_;
    std::vector<std::uint64_t*> free_;
};

} // namespace kvferry
