// SPDX-License-Identifier: Apache-2.0
// Chunks go from free to granted to filled to scattered and back; turns are taken chunk by chunk.
#include "transport/fabric/inbound_staging.hpp"

#include "messages/type_ids.hpp"
#include "messages/values/error_format.hpp"

#include <algorithm>
#include <cstring>
#include <limits>
#include <memory>
#include <string>

namespace kvferry {

namespace {

/// Devices copy whole words where all addresses allow it.
constexpr std::uint64_t word_bytes = 16;

/// At most this many stretches of a writer's own memory go into one scatter.
constexpr std::size_t referred_max = 65536;

caf::error not_granted(std::size_t count) {
    return make_error(errc::transfer_failed,
                      "{} bytes for memory on a device were not granted, or were given up", count);
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
    for (auto next = accounts_.begin(); next != accounts_.end();) {
        const auto it = next++;
        if (it->first.second != id)
            continue;
        grants_.push_back(
            {.put = it->first.first,
             .region = id,
             .refused = make_error(errc::transfer_failed, "the region is taken back")});
        drop(it);
    }
    grant(from);
}

void inbound_staging::pinned(std::byte* staging, const caf::error& problem) {
    auto& pool = pools_.at(staging);
    for (std::size_t at = 0; !problem && at + chunk_bytes_ <= pool.staging.size();
         at += chunk_bytes_)
        pool.free.push_back(pool.staging.data() + at);
    if (problem)
        pool.broken = add_context(problem, "staging memory of the target's device");
    else if (pool.free.empty())
        pool.broken =
            make_error(errc::limit_exceeded,
                       "{} bytes of staging memory at the target are less than one chunk of {}",
                       pool.staging.size(), chunk_bytes_);
    pool.usable = true;
    grant(pool);
}

// -- credit -------------------------------------------------------------------------------------

void inbound_staging::ask(put_key put, region_id region, std::uint64_t bytes,
                          std::optional<std::uint32_t> source_region, const flow& of) {
    auto found = regions_.find(region);
    if (found == regions_.end()) {
        grants_.push_back(
            {.put = put,
             .region = region,
             .refused =
                 make_error(errc::transfer_failed,
                            "region {} takes no puts through staging memory (any more)", region)});
        return;
    }
    auto& from = *found->second;
    const account_key key{put, region};
    auto& account = accounts_[key];
    account.of = of;
    if (source_region && account.offered == 0) {
        account.offered = bytes;
        offers_.push_back({.put = put,
                           .region = region,
                           .source_region = *source_region,
                           .staging = from.staging.data()});
    } else {
        queue(from, key, account, bytes);
    }
}

/// The put may have ended since it made the offer; then the answer is ignored.
void inbound_staging::answer_offer(const staging_offer& offer,
                                   std::optional<readable_memory> source) {
    const account_key key{offer.put, offer.region};
    auto found = accounts_.find(key);
    if (found == accounts_.end() || found->second.offered == 0)
        return;
    auto& account = found->second;
    const auto bytes = std::exchange(account.offered, 0);
    if (!source)
        return queue(*regions_.at(offer.region), key, account, bytes);
    scatter_referred(key, account); // stretches of the source before this one
    account.source = std::move(source);
    account.referred.base = account.source->base;
    grants_.push_back(
        {.put = offer.put, .region = offer.region, .bytes = bytes, .by_reference = true});
}

void inbound_staging::queue(pool& from, account_key key, account& account, std::uint64_t bytes) {
    if (!std::exchange(from.asked_for, true))
        unpinned_.push_back(from.staging);
    if (account.ungranted == 0) {
        account.turn = ++last_turn_;
        from.by_turn.emplace(account.turn, key);
        from.turns.add(account.turn, account.of);
    }
    account.ungranted +=
        std::min(bytes, std::numeric_limits<std::uint64_t>::max() - account.ungranted);
    grant(from);
}

/// Gives every free chunk to the put whose turn it is.
void inbound_staging::grant(pool& from) {
    if (from.broken)
        return refuse_all(from);
    while (from.usable && !from.free.empty() && !from.turns.empty()) {
        const auto turn = *from.turns.front();
        const auto key = from.by_turn.at(turn);
        auto& account = accounts_.at(key);
        const auto bytes = std::min<std::uint64_t>(account.ungranted, chunk_bytes_);
        account.chunks.push_back({.base = from.free.back(), .granted = bytes});
        account.moved = true;
        from.free.pop_back();
        grants_.push_back({.put = key.first, .region = key.second, .bytes = bytes});
        from.turns.charge(turn, bytes);
        if (account.ungranted -= bytes; account.ungranted == 0)
            end_turns(from, account);
    }
}

void inbound_staging::end_turns(pool& from, const account& x) {
    from.turns.remove(x.turn);
    from.by_turn.erase(x.turn);
}

void inbound_staging::refuse_all(pool& from) {
    from.turns = {};
    for (const auto& [turn, key] : std::exchange(from.by_turn, {})) {
        grants_.push_back({.put = key.first, .region = key.second, .refused = from.broken});
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
    for (auto next = accounts_.begin(); next != accounts_.end();) {
        const auto it = next++;
        auto& from = *regions_.at(it->first.second);
        if (it->second.chunks.empty() || from.turns.empty()
            || std::exchange(it->second.moved, false))
            continue;
        grants_.push_back(
            {.put = it->first.first,
             .region = it->first.second,
             .refused = make_error(
                 errc::deadline_exceeded,
                 "it was given staging memory that others wait for, and sent nothing for {} s",
                 credit_idle_max.count())});
        drop(it);
        grant(from);
    }
}

// -- bytes --------------------------------------------------------------------------------------

caf::error inbound_staging::place(put_key put, region_id region, std::uint64_t address,
                                  const void* bytes, std::size_t count) {
    auto found = accounts_.find({put, region});
    if (found == accounts_.end())
        return not_granted(count);
    auto& account = found->second;
    account.moved = true;
    const auto* from = static_cast<const std::byte*>(bytes);
    while (count > 0) {
        if (account.chunks.empty())
            return not_granted(count);
        auto& to = account.chunks.front();
        const auto fit = std::min<std::uint64_t>(count, to.granted - to.filled);
        std::memcpy(to.base + to.filled, from, fit);
        append(to, {address, to.filled, fit});
        from += fit;
        address += fit;
        count -= fit;
        if (to.filled < to.granted)
            continue;
        start_scatter(found->first, to);
        account.chunks.pop_front();
    }
    erase_if_over(found);
    return {};
}

caf::error inbound_staging::refer(put_key put, region_id region, std::uint64_t address,
                                  std::uint64_t offset, std::uint64_t bytes) {
    auto found = accounts_.find({put, region});
    if (found == accounts_.end() || !found->second.source)
        return not_granted(bytes);
    auto& account = found->second;
    if (offset > account.source->bytes || bytes > account.source->bytes - offset)
        return make_error(errc::plan_invalid,
                          "{} bytes at {} are outside the writer's shared memory", bytes, offset);
    append(account.referred, {address, offset, bytes});
    if (account.referred.filled >= chunk_bytes_
        || account.referred.stretches.size() >= referred_max)
        scatter_referred(found->first, account);
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

void inbound_staging::scatter_referred(account_key key, account& account) {
    if (account.referred.filled > 0)
        start_scatter(key, std::exchange(account.referred, {account.source->base, 0, 0, {}}),
                      &*account.source);
}

/// With `source`, `full` lists stretches of that memory of the writer; without, of a chunk of ours.
void inbound_staging::start_scatter(account_key key, const chunk& full,
                                    const readable_memory* source) {
    const auto number = ++last_scatter_;
    auto* from = regions_.at(key.second);
    running_.emplace(number, scatter{.put = key.first,
                                     .region = key.second,
                                     .from = from,
                                     .base = source ? nullptr : full.base});
    auto job = scatter_job(full);
    if (source)
        job.holds.push_back(source->mapping);
    const auto found = accounts_.find(key);
    scatters_.push_back({.number = number,
                         .staging = from->staging.data(),
                         .job = std::move(job),
                         .of = found == accounts_.end() ? flow{} : found->second.of});
}

/// One part for all stretches of one length, which keeps the lists of slot pairs short. A slot is
/// one word, or one byte unless every stretch is aligned to words.
copy_job inbound_staging::scatter_job(const chunk& full) {
    auto bits = reinterpret_cast<std::uint64_t>(full.base);
    for (const auto& x : full.stretches)
        bits |= x.address | x.offset;
    const auto unit = bits % word_bytes == 0 ? word_bytes : 1;
    auto plan = std::make_shared<copy_plan>();
    copy_job result{nullptr, {{reinterpret_cast<std::uint64_t>(full.base), unit, 0}}, {}, {}};
    // Slot numbers have 32 bits: one pool for each window of 2^32 slots.
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
    for (auto next = accounts_.lower_bound({put, region_id{0}});
         next != accounts_.end() && next->first.first == put;) {
        const auto it = next++;
        auto& from = *regions_.at(it->first.second);
        drop(it);
        grant(from);
    }
}

void inbound_staging::erase_if_over(std::map<account_key, account>::iterator it) {
    const auto& account = it->second;
    if (account.chunks.empty() && account.ungranted == 0 && account.offered == 0 && !account.source)
        accounts_.erase(it);
}

/// Its chunks are free at once: only place() writes into them.
void inbound_staging::drop(std::map<account_key, account>::iterator it) {
    for (auto& [memory, from] : pools_)
        end_turns(from, it->second);
    for (const auto& held : it->second.chunks) {
        auto owner = std::prev(pools_.upper_bound(held.base));
        owner->second.free.push_back(held.base);
    }
    accounts_.erase(it);
}

inbound_staging::ended_scatter inbound_staging::scattered(std::uint64_t number, bool in_doubt) {
    auto found = running_.find(number);
    if (found == running_.end())
        return {};
    const auto ended = found->second;
    if (in_doubt) {
        found->second.in_doubt = true;
        const auto chunks = ended.from->staging.size() / chunk_bytes_;
        if (ended.base && ++ended.from->lost == chunks)
            ended.from->broken = make_error(
                errc::transfer_failed, "all staging memory of the target's device is in doubt");
    } else {
        if (ended.base)
            ended.from->free.push_back(ended.base);
        running_.erase(found);
    }
    grant(*ended.from);
    return {ended.put, in_doubt};
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
