// SPDX-License-Identifier: Apache-2.0
// Checks and copies of puts by message.
#include "transport/inbound_writes.hpp"

#include "messages/planted_bug.hpp"

#include <algorithm>
#include <cstring>
#include <string>

namespace kvferry {

namespace {

constexpr std::size_t fences_max = 4096;

} // namespace

void inbound_writes::allow(region_id id, std::byte* base, std::uint64_t bytes,
                           std::uint64_t secret) {
    regions_[id] = {base, bytes, secret};
}

bool inbound_writes::forbid(region_id id) {
    return regions_.erase(id) != 0;
}

caf::error inbound_writes::check(const write_head& head, std::size_t count, std::byte*& to) const {
    if (fenced_.contains(incarnation{head.sender}) && !planted(planted_bug::fence_ignored))
        return make_error(errc::transfer_failed, "incarnation " + std::to_string(head.sender)
                                                     + " counts as gone here: dial again");
    auto found = regions_.find(region_id{head.region});
    if (found == regions_.end() || found->second.secret != head.secret)
        return make_error(errc::transfer_failed,
                          "its access key is for no region that is registered "
                          "here (any more): ask for the peer's regions again");
    const auto& region = found->second;
    const auto base = reinterpret_cast<std::uint64_t>(region.base);
    if (head.address < base || head.address - base > region.bytes
        || count > region.bytes - (head.address - base))
        return make_error(errc::plan_invalid,
                          std::to_string(count) + " bytes at " + std::to_string(head.address)
                              + " are outside region " + std::to_string(head.region));
    to = region.base + (head.address - base);
    return {};
}

inbound_writes::put_state& inbound_writes::find(std::uint64_t sender, std::uint64_t put) {
    const put_key key{sender, put};
    if (auto found = puts_.find(key); found != puts_.end())
        return found->second;
    if (puts_.size() >= puts_max_) // what a lost link left behind is the oldest
        puts_.erase(std::min_element(puts_.begin(), puts_.end(), [](const auto& a, const auto& b) {
            return a.second.born < b.second.born;
        }));
    auto& fresh = puts_[key];
    fresh.born = ++last_born_;
    return fresh;
}

void inbound_writes::place(const write_head& head, const void* bytes, std::size_t count) {
    auto& put = find(head.sender, head.put);
    std::byte* to = nullptr;
    if (auto error = check(head, count, to)) {
        ++refused_pieces_;
        if (!put.refused)
            put.refused = std::move(error);
    } else {
        std::memcpy(to, bytes, count);
    }
    ++put.pieces;
    finish_if_complete({head.sender, head.put});
}

void inbound_writes::end(const write_end_head& head, byte_buffer return_address) {
    auto& put = find(head.sender, head.put);
    put.expected = head.pieces;
    put.return_address = std::move(return_address);
    finish_if_complete({head.sender, head.put});
}

void inbound_writes::finish_if_complete(put_key key) {
    auto found = puts_.find(key);
    auto& put = found->second;
    if (put.expected != put.pieces)
        return;
    finished_.push_back({incarnation{key.first}, key.second, std::move(put.return_address),
                         std::move(put.refused)});
    puts_.erase(found);
}

std::vector<finished_writes> inbound_writes::take_finished() {
    return std::exchange(finished_, {});
}

void inbound_writes::fence(incarnation writer) {
    if (!fenced_.insert(writer).second)
        return;
    fenced_in_order_.push_back(writer);
    if (fenced_in_order_.size() > fences_max) {
        fenced_.erase(fenced_in_order_.front());
        fenced_in_order_.erase(fenced_in_order_.begin());
    }
}

} // namespace kvferry
