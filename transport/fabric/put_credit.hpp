// SPDX-License-Identifier: Apache-2.0
// How far a put may go: the target must grant credit before anything is written to memory on a
// device, region by region in the order of the plan. Pure.
#pragma once

#include "messages/values/copy_plan.hpp"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

namespace kvferry {

class put_credit {
public:
    /// The put writes `bytes` bytes to this region next.
    struct demand {
        std::uint32_t region = 0;
        std::uint64_t bytes = 0;

        friend bool operator==(const demand&, const demand&) = default;
    };

    put_credit() = default;

    /// `needs_credit` says whether a region (by its number in pool_base) takes only granted bytes.
    put_credit(const copy_job&, const std::function<bool(std::uint32_t)>& needs_credit);

    /// The credit to ask for before the put can go on; returned once. Never for a region ahead of
    /// the one being written: a put uses up its credit before it waits for more, so that no two
    /// puts wait for each other.
    std::optional<demand> take_demand();

    /// How many bytes, up to `bytes_max`, may be posted now; 0: wait for credit.
    std::uint64_t room(std::uint64_t bytes_max) const;

    /// By reference: the target reads the bytes itself and only needs to know where they lie.
    void granted(std::uint64_t bytes, bool by_reference = false) {
        credit_ += bytes;
        by_reference_ = by_reference;
    }
    /// Whether the target reads the current region's bytes itself.
    bool by_reference() const { return by_reference_; }
    void posted(std::uint64_t bytes);

    /// The target knows of this put.
    bool has_asked() const { return has_asked_; }

private:
    struct stage {
        demand left;
        bool needs_credit = false;
    };

    bool is_done() const { return now_ == stages_.size(); }

    std::vector<stage> stages_;
    /// The one that is written.
    std::size_t now_ = 0;
    std::uint64_t credit_ = 0;
    /// Of this stage.
    bool asked_ = false;
    bool by_reference_ = false;
    bool has_asked_ = false;
};

} // namespace kvferry
