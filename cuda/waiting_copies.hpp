// SPDX-License-Identifier: Apache-2.0
// Copies that wait until a device has room for their plans: they go in turn by class, peer, session
// and bytes. A plain value.
#pragma once

#include "messages/local/copies.hpp"
#include "transport/turns/fair_turns.hpp"

#include <algorithm>
#include <cstddef>
#include <map>
#include <optional>
#include <utility>
#include <vector>

namespace kvferry {

class waiting_copies {
public:
    void add(start_copy command) {
        const auto number = ++last_;
        turns_.add(number, command.of);
        commands_.emplace(number, std::move(command));
    }

    bool empty() const { return commands_.empty(); }
    std::size_t size() const { return commands_.size(); }
    bool has(priority x) const { return turns_.size(x) > 0; }

    /// Whose turn it is, among all or in one class. There is somebody.
    start_copy take_next() { return take(*turns_.front()); }
    start_copy take_next(priority x) { return take(*turns_.front(x)); }

    /// The first one of that id.
    std::optional<start_copy> take(transfer_id id) {
        const auto found = std::find_if(commands_.begin(), commands_.end(),
                                        [id](const auto& x) { return x.second.id == id; });
        if (found == commands_.end())
            return std::nullopt;
        return take(found->first);
    }

    std::vector<start_copy> take_all() {
        std::vector<start_copy> result;
        for (auto& [number, command] : std::exchange(commands_, {}))
            result.push_back(std::move(command));
        turns_ = {};
        return result;
    }

private:
    start_copy take(fair_turns::item number) {
        auto result = std::move(commands_.extract(number).mapped());
        turns_.charge(number, result.job.plan ? result.job.plan->bytes : 0);
        turns_.remove(number);
        return result;
    }

    std::map<fair_turns::item, start_copy> commands_;
    fair_turns turns_;
    fair_turns::item last_ = 0;
};

} // namespace kvferry
