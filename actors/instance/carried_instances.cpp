// SPDX-License-Identifier: Apache-2.0
// What may be carried, and what it must look like when it arrives.
#include "actors/instance/carried_instances.hpp"

#include "actors/instance/instance_roster.hpp"
#include "messages/values/error_format.hpp"
#include "messages/wire/rank_packing.hpp"

#include <algorithm>
#include <utility>

namespace kvferry {

namespace {

constexpr char mark = '@';

/// The ranks in one text: as a rule one.
caf::expected<std::vector<rank_info>> ranks_in(const byte_buffer& bytes, const limits& bounds) {
    auto message = decode(byte_view{bytes}, bounds.message_bytes_max, bounds.protocol);
    if (!message)
        return std::move(message.error());
    const auto* packed = std::get_if<packed_instance>(&*message);
    if (!packed)
        return make_error(errc::malformed_message, "this is a {}, no rank info", name_of(*message));
    if (digest_of_packed(byte_view{packed->ranks}) != packed->digest)
        return make_error(errc::malformed_message, "the bytes were damaged on their way");
    return unpack_ranks(byte_view{packed->ranks}, bounds.instance_bytes_max,
                        packed->header.version);
}

} // namespace

std::string carried_address(std::string_view instance) {
    return mark + std::string{instance};
}

bool is_carried(std::string_view address) {
    return !address.empty() && address.front() == mark;
}

caf::expected<byte_buffer> bytes_of(const rank_info& info, const limits& bounds) {
    auto packed = pack_ranks({info}, bounds.instance_bytes_max, bounds.protocol);
    if (!packed)
        return add_context(packed.error(), describe(info));
    packed_instance message;
    message.header.version = bounds.protocol;
    message.header.sender = info.incarnation;
    message.digest = digest_of_packed(byte_view{*packed});
    message.ranks = std::move(*packed);
    return encode(message, bounds.message_bytes_max);
}

caf::expected<std::vector<rank_info>> instance_from(const std::vector<byte_buffer>& infos,
                                                    const limits& bounds) {
    std::size_t bytes = 0;
    for (const auto& each : infos)
        bytes += each.size();
    if (bytes > bounds.instance_bytes_max)
        return make_error(errc::limit_exceeded, "infos of {} bytes, instance_bytes_max is {}",
                          bytes, bounds.instance_bytes_max);
    std::optional<instance_roster> roster;
    std::vector<bool> seen;
    for (std::size_t index = 0; index < infos.size(); ++index) {
        const auto about = [&](const caf::error& reason) {
            return add_context(reason, "info {} of {}", index, infos.size());
        };
        auto ranks = ranks_in(infos[index], bounds);
        if (!ranks)
            return about(ranks.error());
        for (auto& each : *ranks) {
            // The number of ranks is a claim of the bytes: each has some, so there are fewer.
            if (each.world_size > bytes)
                return about(make_error(errc::malformed_message, "{} claims {} ranks",
                                        describe(each), each.world_size));
            if (!roster) {
                roster.emplace(each.instance, each.world_size);
                seen.resize(each.world_size);
            }
            const auto rank = each.rank.value;
            if (rank < seen.size() && each.instance == roster->instance() && seen[rank])
                return about(make_error(errc::duplicate, "{} was there already", describe(each)));
            if (!each.pages)
                return about(make_error(errc::missing_layout, "{} has no pools", describe(each)));
            if (auto problem = roster->enter(std::move(each)))
                return about(problem);
            seen[rank] = true;
        }
    }
    if (!roster)
        return make_error(errc::invalid_argument, "no infos were given");
    if (!roster->complete())
        return make_error(errc::instance_incomplete, "instance \"{}\" lacks {}", roster->instance(),
                          roster->missing());
    return roster->all();
}

caf::error carried_instances::add(const std::string& address, std::vector<rank_info> ranks) {
    if (!known_.contains(address) && known_.size() >= instances_max_)
        return make_error(errc::limit_exceeded,
                          "instances_added_max = {} instances are known here: remove one",
                          instances_max_);
    if (address == own_ && self_) {
        const auto& self = ranks.at(self_->rank.value);
        if (self.incarnation != self_->incarnation)
            return make_error(errc::stale_incarnation,
                              "{} is carried here with incarnation {}, and has {} now: carry its "
                              "info anew",
                              describe(*self_), self.incarnation, self_->incarnation);
    }
    known_[address] = std::move(ranks);
    return {};
}

void carried_instances::enter_self(rank_info self) {
    self_ = std::move(self);
    if (auto known = known_.find(own_); known != known_.end())
        known->second.at(self_->rank.value) = *self_;
}

caf::expected<std::vector<rank_info>> carried_instances::find(const std::string& address) const {
    if (const auto known = known_.find(address); known != known_.end())
        return known->second;
    if (address == own_ && self_ && self_->world_size == 1)
        return std::vector{*self_};
    return make_error(errc::instance_incomplete,
                      "nobody has carried the ranks of {} here: add_instance() first{}", address,
                      address == own_ ? ", also of the own instance" : "");
}

} // namespace kvferry
