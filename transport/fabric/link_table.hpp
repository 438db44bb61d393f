// SPDX-License-Identifier: Apache-2.0
// The links of a fabric, by id and by peer, so that no frame looks at all of them.
#pragma once

#include "messages/values/ids.hpp"

#include <map>
#include <set>
#include <utility>
#include <vector>

namespace kvferry {

/// A Link has `peer`, `owner` and `is_open()`.
template <class Link>
class link_table {
public:
    Link& add(endpoint_id id, Link link) {
        of_peer_[link.peer].insert(id);
        return links_.emplace(id, std::move(link)).first->second;
    }

    /// Null: it has ended.
    Link* find(endpoint_id id) {
        auto found = links_.find(id);
        return found == links_.end() ? nullptr : &found->second;
    }

    Link* find_open(endpoint_id id) {
        auto* found = find(id);
        return found && found->is_open() ? found : nullptr;
    }

    /// An open link to that peer, if possible one with an owner.
    Link* find_open(incarnation peer) {
        Link* result = nullptr;
        const auto known = of_peer_.find(peer);
        if (known == of_peer_.end())
            return result;
        for (auto id : known->second)
            if (auto& x = links_.at(id); x.is_open() && (!result || x.owner))
                result = &x;
        return result;
    }

    bool has_any(incarnation peer) const { return of_peer_.contains(peer); }

    /// A copy: links may end while their caller looks at them.
    std::vector<endpoint_id> of(incarnation peer) const {
        auto found = of_peer_.find(peer);
        return found == of_peer_.end()
                   ? std::vector<endpoint_id>{}
                   : std::vector<endpoint_id>{found->second.begin(), found->second.end()};
    }
    std::vector<endpoint_id> all() const {
        std::vector<endpoint_id> result;
        for (const auto& [id, x] : links_)
            result.push_back(id);
        return result;
    }

    Link take(endpoint_id id) {
        auto result = std::move(links_.extract(id).mapped());
        const auto siblings = of_peer_.find(result.peer);
        siblings->second.erase(id);
        if (siblings->second.empty())
            of_peer_.erase(siblings);
        return result;
    }

    bool empty() const { return links_.empty(); }
    std::size_t size() const { return links_.size(); }
    void clear() {
        links_.clear();
        of_peer_.clear();
    }

private:
    std::map<endpoint_id, Link> links_;
    std::map<incarnation, std::set<endpoint_id>> of_peer_;
};

} // namespace kvferry
