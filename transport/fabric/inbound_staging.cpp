// SPDX-License-Identifier: Apache-2.0
// Chunks go from free to granted to filled to scattered and back; turns are taken chunk by chunk.
#include "transport/fabric/inbound_staging.hpp"

#include "messages/local/type_ids.hpp"

#include <algorithm>
#include <cstring>
#include <limits>
#include <memory>
#include <string>

namespace kvferry {

namespace {

/// Devices copy whole words where all addresses allow it.
constexpr std::uint64_t word_bytes = 16;

/// Stretches of a writer's own memory that are scattered together.
constexpr std::size_t referred_max = 65536;

caf::error not_granted(std::size_t count) {
    return make_error(errc::transfer_failed,
                      std::to_string(count)
                          + " bytes for memory on a device were not granted, or are given up");
}

} // namespace

// -- regions ------------------------------------------------------------------------------------

void inbound_staging::add_region(region_id id, std::span<std::byte> staging) {
    auto& from = pools_[staging.data()];
    from.staging = staging;
    regions_[id] = &from;
}

void inbound_staging::remove_region(region_id id) {
    auto found = regions_.find(id);
    if (found == regions_.end())
        return;
    auto& from = *found->second;
    regions_.erase(found);
    for (auto it = accounts_.begin(); it != accounts_.end();) {
        const auto now = it++;
        if (now->first.second != id)
            continue;
        grants_.push_back({now->first.first, id, 0,
                           make_error(errc::transfer_failed, "the region is taken back")});
        drop(now);
    }
    grant(from);
}

void inbound_staging::pinned(std::byte* staging, const caf::error& problem) {
    auto& now = pools_.at(staging);
    for (std::size_t at = 0; !problem && at + chunk_bytes_ <= now.staging.size();
         at += chunk_bytes_)
        now.free.push_back(now.staging.data() + at);
    if (problem)
        now.broken = add_context(problem, "staging memory of the target's device");
    else if (now.free.empty())
        now.broken = make_error(errc::limit_exceeded,
                                std::to_string(now.staging.size())
                                    + " bytes of staging memory at the target are less than one "
                                      "chunk of "
                                    + std::to_string(chunk_bytes_));
    now.usable = true;
    grant(now);
}

// -- credit -------------------------------------------------------------------------------------

void inbound_staging::ask(put_key put, region_id region, std::uint64_t bytes,
                          std::optional<std::uint32_t> source_region) {
    auto found = regions_.find(region);
    if (found == regions_.end()) {
        grants_.push_back({put, region, 0,
                           make_error(errc::transfer_failed,
                                      "region " + to_string(region)
                                          + " takes no puts through staging memory (any more)")});
        return;
    }
    auto& from = *found->second;
    const account_key key{put, region};
    auto& now = accounts_[key];
    if (source_region && now.offered == 0) {
        now.offered = bytes;
        offers_.push_back({put, region, *source_region, from.staging.data()});
    } else {
        queue(from, key, now, bytes);
    }
}

/// What the put has offered may be over by then.
void inbound_staging::answer_offer(const staging_offer& offer,
                                   std::optional<readable_memory> source) {
    const account_key key{offer.put, offer.region};
    auto found = accounts_.find(key);
    if (found == accounts_.end() || found->second.offered == 0)
        return;
    auto& now = found->second;
    const auto bytes = std::exchange(now.offered, 0);
    if (!source)
        return queue(*regions_.at(offer.region), key, now, bytes);
    scatter_referred(key, now); // of another memory
    now.source = std::move(source);
    now.referred.base = now.source->base;
    grants_.push_back({offer.put, offer.region, bytes, {}, true});
}

void inbound_staging::queue(pool& from, account_key key, account& now, std::uint64_t bytes) {
    if (!std::exchange(from.asked_for, true))
        unpinned_.push_back(from.staging);
    if (now.ungranted == 0)
        from.turns.push_back(key);
    now.ungranted += std::min(bytes, std::numeric_limits<std::uint64_t>::max() - now.ungranted);
    grant(from);
}

/// Gives every free chunk to the put whose turn it is.
void inbound_staging::grant(pool& from) {
    if (from.broken)
        return refuse_all(from);
    while (from.usable && !from.free.empty() && !from.turns.empty()) {
        const auto key = from.turns.front();
        from.turns.pop_front();
        auto& now = accounts_.at(key);
        const auto bytes = std::min<std::uint64_t>(now.ungranted, chunk_bytes_);
        now.chunks.push_back({from.free.back(), bytes, 0, {}});
        now.moved = true;
        from.free.pop_back();
        grants_.push_back({key.first, key.second, bytes, {}});
        if (now.ungranted -= bytes; now.ungranted > 0)
            from.turns.push_back(key);
    }
}

void inbound_staging::refuse_all(pool& from) {
    for (const auto& key : std::exchange(from.turns, {})) {
        grants_.push_back({key.first, key.second, 0, from.broken});
        auto found = accounts_.find(key);
        found->second.ungranted = 0;
        erase_if_over(found);
    }
}

bool inbound_staging::has_waiting() const {
    return std::any_of(pools_.begin(), pools_.end(),
                       [](const auto& x) { return !x.second.turns.empty(); });
}

void inbound_staging::reclaim() {
    for (auto it = accounts_.begin(); it != accounts_.end();) {
        const auto now = it++;
        auto& from = *regions_.at(now->first.second);
        if (now->second.chunks.empty() || from.turns.empty()
            || std::exchange(now->second.moved, false))
            continue;
        grants_.push_back({now->first.first, now->first.second, 0,
                           make_error(errc::deadline_exceeded,
                                      "it was given staging memory that others wait for, and sent "
                                      "nothing for "
                                          + std::to_string(credit_idle_max.count()) + " s")});
        drop(now);
        grant(from);
    }
}

// -- bytes --------------------------------------------------------------------------------------

caf::error inbound_staging::place(put_key put, region_id region, std::uint64_t address,
                                  const void* bytes, std::size_t count) {
    auto found = accounts_.find({put, region});
    if (found == accounts_.end())
        return not_granted(count);
    auto& now = found->second;
    now.moved = true;
    const auto* from = static_cast<const std::byte*>(bytes);
    while (count > 0) {
        if (now.chunks.empty())
            return not_granted(count);
        auto& to = now.chunks.front();
        const auto fit = std::min<std::uint64_t>(count, to.granted - to.filled);
        std::memcpy(to.base + to.filled, from, fit);
        append(to, {address, to.filled, fit});
        from += fit;
        address += fit;
        count -= fit;
        if (to.filled < to.granted)
            continue;
        start_scatter(found->first, to);
        now.chunks.pop_front();
    }
    erase_if_over(found);
    return {};
}

caf::error inbound_staging::refer(put_key put, region_id region, std::uint64_t address,
                                  std::uint64_t offset, std::uint64_t bytes) {
    auto found = accounts_.find({put, region});
    if (found == accounts_.end() || !found->second.source)
        return not_granted(bytes);
    auto& now = found->second;
    if (offset > now.source->bytes || bytes > now.source->bytes - offset)
        return make_error(errc::plan_invalid, std::to_string(bytes) + " bytes at "
                                                  + std::to_string(offset)
                                                  + " are outside the writer's shared memory");
    append(now.referred, {address, offset, bytes});
    if (now.referred.filled >= chunk_bytes_ || now.referred.stretches.size() >= referred_max)
        scatter_referred(found->first, now);
    return {};
}

void inbound_staging::complete(put_key put) {
    for (auto it = accounts_.lower_bound({put, region_id{0}});
         it != accounts_.end() && it->first.first == put; ++it)
        scatter_referred(it->first, it->second);
}

void inbound_staging::append(chunk& to, stretch x) {
    auto* last = to.stretches.empty() ? nullptr : &to.stretches.back();
    if (last && last->address + last->bytes == x.address && last->offset + last->bytes == x.offset)
        last->bytes += x.bytes;
    else
        to.stretches.push_back(x);
    to.filled += x.bytes;
}

void inbound_staging::scatter_referred(account_key key, account& now) {
    if (now.referred.filled > 0)
        start_scatter(key, std::exchange(now.referred, {now.source->base, 0, 0, {}}), &*now.source);
}

/// `source`: it is that memory of the writer, not a chunk of ours.
void inbound_staging::start_scatter(account_key key, const chunk& full,
                                    const readable_memory* source) {
    const auto number = ++last_scatter_;
    auto* from = regions_.at(key.second);
    running_.emplace(number, scatter{key.first, key.second, from, source ? nullptr : full.base});
    auto job = scatter_job(full);
    if (source)
        job.holds.push_back(source->mapping);
    scatters_.push_back({number, from->staging.data(), std::move(job)});
}

/// One part for all stretches of a length: a list of pairs of slots, which is short. Slots are
/// single words, or bytes when not everything lies on words.
copy_job inbound_staging::scatter_job(const chunk& full) {
    auto bits = reinterpret_cast<std::uint64_t>(full.base);
    for (const auto& x : full.stretches)
        bits |= x.address | x.offset;
    const auto unit = bits % word_bytes == 0 ? word_bytes : 1;
    auto plan = std::make_shared<copy_plan>();
    copy_job result{nullptr, {{reinterpret_cast<std::uint64_t>(full.base), unit, 0}}, {}, {}};
    // Slot numbers have 32 bits: a pool for each window that they can name.
    std::map<std::uint64_t, std::uint32_t> pool_of;
    std::map<std::pair<std::uint64_t, std::uint64_t>, std::size_t> part_of;
    for (const auto& x : full.stretches) {
        const auto slot = x.address / unit;
        const auto window = slot >> 32;
        auto [pool, is_new_pool] =
            pool_of.try_emplace(window, static_cast<std::uint32_t>(result.target_pools.size()));
        if (is_new_pool)
            result.target_pools.push_back({(window << 32) * unit, unit, 0});
        auto [part, is_new_part] = part_of.try_emplace({x.bytes, window}, plan->parts.size());
        if (is_new_part)
            plan->parts.push_back({0,
                                   pool->second,
                                   std::make_shared<const copy_template>(
                                       copy_template{{{0, 0, x.bytes, 1, 0, 0}}, x.bytes, 1}),
                                   {}});
        plan->parts[part->second].slots.push_back(
            {static_cast<std::uint32_t>(x.offset / unit), static_cast<std::uint32_t>(slot)});
    }
    plan->bytes = full.filled;
    plan->fragments = full.stretches.size();
    result.plan = std::move(plan);
    return result;
}

// -- ends ---------------------------------------------------------------------------------------

void inbound_staging::abandon(put_key put) {
    for (auto it = accounts_.lower_bound({put, region_id{0}});
         it != accounts_.end() && it->first.first == put;) {
        const auto now = it++;
        auto& from = *regions_.at(now->first.second);
        drop(now);
        grant(from);
    }
}

void inbound_staging::erase_if_over(std::map<account_key, account>::iterator it) {
    const auto& now = it->second;
    if (now.chunks.empty() && now.ungranted == 0 && now.offered == 0 && !now.source)
        accounts_.erase(it);
}

/// Its chunks are free: nobody but place() writes into them.
void inbound_staging::drop(std::map<account_key, account>::iterator it) {
    for (auto& [memory, from] : pools_)
        std::erase(from.turns, it->first);
    for (const auto& now : it->second.chunks) {
        auto owner = std::prev(pools_.upper_bound(now.base));
        owner->second.free.push_back(now.base);
    }
    accounts_.erase(it);
}

inbound_staging::ended_scatter inbound_staging::scattered(std::uint64_t number, bool in_doubt) {
    auto found = running_.find(number);
    if (found == running_.end())
        return {};
    const auto now = found->second;
    if (in_doubt) {
        found->second.in_doubt = true;
        const auto chunks = now.from->staging.size() / chunk_bytes_;
        if (now.base && ++now.from->lost == chunks)
            now.from->broken = make_error(errc::transfer_failed,
                                          "all staging memory of the target's device is in doubt");
    } else {
        if (now.base)
            now.from->free.push_back(now.base);
        running_.erase(found);
    }
    grant(*now.from);
    return {now.put, in_doubt};
}

bool inbound_staging::is_busy(put_key put) const {
    return std::any_of(running_.begin(), running_.end(),
                       [put](const auto& x) { return x.second.put == put && !x.second.in_doubt; });
}

bool inbound_staging::is_busy(incarnation writer) const {
    return std::any_of(running_.begin(), running_.end(),
                       [writer](const auto& x) { return x.second.put.first == writer.value; });
}

bool inbound_staging::is_busy(region_id region) const {
    return std::any_of(running_.begin(), running_.end(),
                       [region](const auto& x) { return x.second.region == region; });
}

std::size_t inbound_staging::free_chunks(std::byte* staging) const {
    return pools_.at(staging).free.size();
}

} // namespace kvferry
