// SPDX-License-Identifier: Apache-2.0
// How far a put may go: what it writes to memory on a device must first be given credit by the
// target, region by region in the order of the plan. Pure.
#pragma once

#include "messages/values/copy_plan.hpp"

#include <cstdint>
#include <deque>
#include <functional>
#include <optional>

namespace kvferry {

class put_credit {
public:
    /// So many bytes of the put go to this region next.
    struct demand {
        std::uint32_t region = 0;
        std::uint64_t bytes = 0;

        friend bool operator==(const demand&, const demand&) = default;
    };

    put_credit() = default;

    /// `needs_credit` tells it of regions by the number in pool_base.
    put_credit(const copy_job&, const std::function<bool(std::uint32_t)>& needs_credit);

    /// What must be asked for before the put can go on; told once. Never a region ahead of the one
    /// that is being written: whoever holds credit uses it up before it waits for more, so that no
    /// two puts wait for each other.
    std::optional<demand> take_demand();

    /// How many of `bytes_max` bytes may go now; 0: not before more is granted.
    std::uint64_t room(std::uint64_t bytes_max) const;

    /// By reference: the target reads the bytes itself, it needs to be told where they lie.
    void granted(std::uint64_t bytes, bool by_reference = false) {
        credit_ += bytes;
        by_reference_ = by_reference;
    }
    /// How the present region's bytes go.
    bool by_reference() const { return by_reference_; }
    void posted(std::uint64_t bytes);

    /// The target knows of this put.
    bool has_asked() const { return has_asked_; }

private:
    struct stage {
        demand left;
        bool needs_credit = false;
    };

    std::deque<stage> stages_;
    std::uint64_t credit_ = 0;
    /// For the first stage.
    bool asked_ = false;
    bool by_reference_ = false;
    bool has_asked_ = false;
};

} // namespace kvferry
