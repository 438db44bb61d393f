// SPDX-License-Identifier: Apache-2.0
// Keeps steps and renumbers their neighbours.
#include "tools/trace/selection.hpp"

#include "tools/trace/stats.hpp"

#include <set>
#include <utility>
#include <vector>

namespace kvferry::tracing {

flow select(flow run, const selection& wanted) {
    if (wanted.is_all())
        return run;
    std::optional<std::set<std::uint64_t>> rids;
    if (wanted.rid)
        rids.emplace({*wanted.rid});
    if (wanted.slowest != 0) {
        std::set<std::uint64_t> slowest;
        for (const auto& request : statistics_of(run).requests)
            if (slowest.size() < wanted.slowest && (!rids || rids->contains(request.rid)))
                slowest.insert(request.rid);
        rids = std::move(slowest);
    }
    const auto is_wanted = [&](const step& x) {
        return (!rids || rids->contains(x.rid)) && (!wanted.from_ns || x.time_ns >= *wanted.from_ns)
               && (!wanted.to_ns || x.time_ns <= *wanted.to_ns);
    };
    std::vector<step_index> now(run.steps.size(), no_step);
    step_index kept = 0;
    for (std::size_t i = 0; i < run.steps.size(); ++i) {
        if (!is_wanted(run.steps[i]))
            continue;
        now[i] = kept;
        if (kept != i)
            run.steps[kept] = run.steps[i];
        ++kept;
    }
    run.steps.resize(kept);
    run.steps.shrink_to_fit();
    for (auto& x : run.steps)
        for (auto* neighbour : {&x.cause, &x.effect, &x.answer, &x.handler})
            if (*neighbour != no_step)
                *neighbour = now[*neighbour];
    return run;
}

} // namespace kvferry::tracing
