// SPDX-License-Identifier: Apache-2.0
// Who may enter an instance's roster, and what it looks like from outside.
#include "actors/instance/instance_roster.hpp"

#include "messages/values/error_format.hpp"
#include "transport/planner/layout/topology.hpp"

#include <algorithm>

namespace kvferry {

namespace {

std::string number(std::uint64_t x) {
    return std::to_string(x);
}

bool same_split(const parallelism& a, const parallelism& b) {
    return a.tp_size == b.tp_size && a.pp_size == b.pp_size && a.cp_size == b.cp_size
           && a.attention_dp == b.attention_dp && a.attention_tp_size == b.attention_tp_size
           && a.layers_per_stage == b.layers_per_stage;
}

std::string split_text(const parallelism& x) {
    std::string layers;
    for (auto count : x.layers_per_stage)
        layers.append(layers.empty() ? "" : ",").append(number(count));
    return std::string{"tp "} + number(x.tp_size) + " pp " + number(x.pp_size) + " cp "
           + number(x.cp_size) + " attention_dp " + number(x.attention_dp ? x.attention_tp_size : 0)
           + " layers_per_stage " + layers;
}

} // namespace

instance_roster::instance_roster(std::string instance, std::uint32_t world_size,
                                 clock::duration silent_max)
    : instance_(std::move(instance)), silent_max_(silent_max), entries_(world_size),
      missing_count_(world_size) {}

caf::error instance_roster::check(const rank_info& x, time_point now) const {
    if (x.instance != instance_)
        return make_error(errc::invalid_argument,
                          "this server is of instance \"{}\", rank {} says \"{}\"", instance_,
                          x.rank, x.instance);
    if (x.world_size != entries_.size() || x.rank.value >= entries_.size())
        return make_error(errc::invalid_argument,
                          "{} of world_size {}: this instance has world_size {}", describe(x),
                          number(x.world_size), number(entries_.size()));
    if (auto error = check_parallelism(x))
        return error;
    // All others are split alike: the first one stands for them.
    const auto other = std::find_if(entries_.begin(), entries_.end(), [&x](const entry& each) {
        return each.info && each.info->rank != x.rank;
    });
    if (other != entries_.end() && !same_split(other->info->layout, x.layout))
        return make_error(errc::layout_mismatch, "{} has {}, {} has {}", describe(x),
                          split_text(x.layout), describe(*other->info),
                          split_text(other->info->layout));
    const auto& [known, former, heard_at, addresses] = entries_[x.rank.value];
    const auto heard_lately = now - heard_at < silent_max_;
    if (heard_lately && std::find(former.begin(), former.end(), x.incarnation) != former.end())
        return make_error(errc::stale_incarnation, "{}: incarnation {} has been replaced by {}",
                          describe(x), x.incarnation, known->incarnation);
    return {};
}

caf::error instance_roster::enter(rank_info info, time_point now,
                                  std::vector<std::string> answers_at) {
    if (auto error = check(info, now))
        return error;
    auto& [known, former, heard_at, addresses] = entries_[info.rank.value];
    answers_at.resize(std::min(answers_at.size(), addresses_max));
    addresses = std::move(answers_at);
    if (known == info) {
        heard_at = now;
        return {};
    }
    ++changes_;
    if (!known) {
        --missing_count_;
    } else if (known->incarnation != info.incarnation) {
        if (former.size() == former_max)
            former.erase(former.begin());
        std::erase(former, info.incarnation);
        former.push_back(known->incarnation);
    }
    known = std::move(info);
    heard_at = now;
    return {};
}

bool instance_roster::heard_again(rank_id rank, incarnation who, time_point now) {
    auto& entry = entries_.at(rank.value);
    if (!entry.info || entry.info->incarnation != who)
        return false;
    entry.heard_at = now;
    return true;
}

std::vector<rank_info> instance_roster::all() const {
    std::vector<rank_info> result;
    result.reserve(entries_.size());
    for (const auto& entry : entries_)
        result.push_back(entry.info.value());
    return result;
}

std::vector<rank_place> instance_roster::places(time_point now) const {
    std::vector<rank_place> result;
    for (std::size_t rank = 0; rank < entries_.size(); ++rank) {
        const auto& x = entries_[rank];
        rank_place place;
        place.rank = rank_id{static_cast<std::uint32_t>(rank)};
        if (x.info) {
            place.known = true;
            place.protocol = x.info->protocol;
            place.answers_at = x.answers_at;
            place.silent_ms = static_cast<std::uint64_t>(
                std::chrono::duration_cast<std::chrono::milliseconds>(now - x.heard_at).count());
        }
        result.push_back(std::move(place));
    }
    return result;
}

std::string instance_roster::missing() const {
    constexpr std::size_t named_max = 16;
    std::string result = missing_count_ == 1 ? "rank" : "ranks";
    std::size_t named = 0;
    for (std::size_t rank = 0; rank < entries_.size() && named < named_max; ++rank)
        if (!entries_[rank].info)
            result += (named++ == 0 ? " " : ", ") + number(rank);
    if (named < missing_count_)
        result += " and " + number(missing_count_ - named) + " more";
    return result + " of " + number(entries_.size());
}

incarnation instance_roster::first_process() const {
    return !entries_.empty() && entries_.front().info ? entries_.front().info->incarnation
                                                      : incarnation{};
}

} // namespace kvferry
