-- The body of three functions: of claim, with divert, which hands queues with a limit of
-- concurrency over to _claim_limited; of _claim_limited, with limited, which declares some of the
-- variables and has the queue's tokens already; and of _claim_frozen, for transaction-long
-- snapshots.
--
-- Per lane: the caller's turn is the lane's advisory lock, held until commit, so the newest
-- cursor in a fresh snapshot is the current one. Under a transaction-long snapshot the cursor's
-- primary key refuses a second claim instead.
--
-- The clock is read again after each wait: a lease begins when the jobs are handed out.
declare
{{- if not .limited }}
  v_asked    integer := least(claim.max_jobs, 10000);
  v_left     integer := v_asked;
  v_got      integer;
  v_rate     double precision;
  v_burst    integer;
{{- end }}
  v_take     integer;
{{- if .limited }}
  v_from     smallint;
  v_met      integer;
  v_seen     integer := 0;
  v_most     integer;
  v_next     integer := 0;
  v_key      text;
  v_barred   integer[];
  v_gone     bigint[];
  v_top      bigint;
  v_lease    integer;
  v_batch    bigint;
  w_xids     xid8[];
  w_ids      bigint[];
  w_leases   integer[];
  t_keys     text[];
  t_jobs     bigint[];
{{- end }}
  v_lanes    bigint[];
  v_heads    timestamptz[];
  v_unknown  bigint[];
  v_many     boolean;
  v_ruled    boolean;
{{- if not .limited }}
  v_paused   boolean;
{{- end }}
  v_aging    interval;
{{- if .divert }}
  v_limit    integer;
{{- end }}
  v_at       integer;
  v_busy     bigint[];
  v_waits    boolean;
  v_holds    boolean;
  v_lane     bigint;
{{- if not (or .divert .limited) }}
  v_frozen   boolean := _keeps_snapshot();
{{- end }}
  v_priority smallint;
  v_now      timestamptz := _now();
  v_snap     pg_snapshot;
  v_ring     bigint;
  v_segment  bigint;
  v_slot     smallint;
  v_costly   boolean;
  v_fresh    boolean;
  v_oldest   bigint;
  v_simple   boolean;
  v_lo_xid   xid8;
  v_lo_id    bigint;
  v_hi_xid   xid8;
  v_late     xid8[];
  v_open     xid8[];
  v_whole    boolean;
  w_lo_xid   xid8[];
  w_lo_id    bigint[];
  w_hi_xid   xid8[];
  w_to_xid   xid8[];
  r          record;
  -- The lane's cursor, column by column: assigning to a record costs more.
  c_generation bigint;
  c_segment    bigint;
  c_last       bigint;
  c_base       bigint;
  c_settled    bigint;
  c_settler    xid8;
  c_pos_xid    xid8;
  c_pos_id     bigint;
  c_floor      xid8;
  c_claimed    bigint;
  c_skips      smallint;
  c_drained    boolean;
  c_prev       pg_snapshot;
  c_cur        pg_snapshot;
begin
  select q.lane, q.priority,
    (select g.generation from segment_rotations as g order by g.generation desc limit 1),
    exists (select from queue_lanes as o where o.queue = q.queue and o.lane <> q.lane),
    exists (
      select from queue_meta as m
      where m.queue = q.queue and (m.paused or coalesce(m.rate_limit, m.concurrency_limit) is not null
        or m.priority_aging_interval is not null))
  into v_lane, v_priority, v_ring, v_many, v_ruled
  from queue_lanes as q
  -- Here and below not by the collation that a caller's name comes with, which may take other
  -- names for equal, and with them other queues' lanes and settings.
  where q.queue = claim.queue collate "default"
  limit 1;
  if v_lane is null then
    {{ if .limited }}exit claim_body{{ else }}return{{ end }};
  end if;
  if v_ruled then
    select m.paused, m.priority_aging_interval{{ if not .limited }}, m.rate_limit, m.rate_burst{{ end }}{{ if .divert }}, m.concurrency_limit{{ end }}
    into v_paused, v_aging{{ if not .limited }}, v_rate, v_burst{{ end }}{{ if .divert }}, v_limit{{ end }}
    from queue_meta as m
    where m.queue = claim.queue collate "default";
    if v_paused then
      {{ if .limited }}exit claim_body{{ else }}return{{ end }};
    end if;
{{- if .divert }}
    if v_limit is not null then
      return query
      select j.* from _claim_limited(claim.queue collate "default", claim.max_jobs, claim.worker, claim.lease, v_limit) as j;
      return;
    end if;
{{- end }}
{{- if not .limited }}
    if v_rate is not null then
      select t.p_rate, t.p_burst, least(v_asked, t.jobs) into v_rate, v_burst, v_asked
      from _await_tokens(claim.queue collate "default", v_rate, v_burst) as t;
      if v_asked < 1 then
        return;
      end if;
      v_left := v_asked;
      v_now := _now();
    end if;
{{- end }}
  end if;
  if v_many then
    v_at := 0;
    v_waits := false;
    v_holds := false;
{{ template "internal/claim_order.sql" . }}  end if;

  -- With several lanes, first only free locks of lanes where rows wait are taken, because a
  -- lock lasts until commit. Only a claim that found all of these held goes round again and
  -- waits, and never for a lower lane than one it holds.
  loop
    declare
      v_opened  boolean;
      v_settles boolean;
      v_rest    boolean;
      v_unseen  boolean;
      v_skipped boolean;
    begin
      if v_many then
        exit when {{ if .limited }}v_stop{{ else }}v_left = 0{{ end }} or (v_waits and v_left < v_asked);
        v_at := v_at + 1;
        if v_at > coalesce(cardinality(v_lanes), 0) then
          exit when v_waits or v_left < v_asked or v_busy is null;
          v_waits := true;
          v_lanes := array(select u.lane from unnest(v_busy) as u (lane) order by _lane_rank(u.lane));
          v_at := 1;
        end if;
        v_lane := v_lanes[v_at];
        v_priority := _lane_priority(v_lane);
        if not pg_try_advisory_xact_lock(_lock_class(1), _lane_key(v_lane)) then
          if not v_waits then
            v_busy := v_busy || v_lane;
            continue;
          end if;
          continue when not _await_lane(v_lane, v_holds);
          v_now := _now();
        end if;
        v_holds := true;
      elsif not pg_try_advisory_xact_lock(_lock_class(1), _lane_key(v_lane)) then
        -- Mostly the transaction holds nothing yet, and no further call is needed.
        if not _may_have_turns() then
          perform pg_advisory_xact_lock(_lock_class(1), _lane_key(v_lane));
        else
          exit when not _await_lane(v_lane, false);
        end if;
        v_now := _now();
      end if;
{{- if not .divert }}
      if v_frozen and _snapshot_is_stale() then
        perform _stale_snapshot(format('claim of queue %L', claim.queue));
      end if;
{{- end }}

      -- A lane that claimed since the last rotation has its cursor in the current segment.
      -- Otherwise one statement looks in all segments. It locks them before it takes its
      -- snapshot, because a prune moves cursors. Ring and snapshot are read together: a
      -- transaction numbered after them writes into this segment or a newer one. A number that
      -- this transaction draws only now comes after them, too.
      case v_ring % {{ .segments }}
{{ range $i := until (int .segments) }}
      when {{ $i }} then
        select (select n.generation from segment_rotations as n order by n.generation desc limit 1),
          pg_current_snapshot(), pg_current_xact_id_if_assigned() is null,
          k.generation, k.segment, k.last_segment, k.base_segment, k.pos_xid, k.pos_job_id, k.floor_xid,
          k.settled_segment, k.settled_xid,
          k.claimed_total, k.skips, k.drained, k.s_prev, k.s_cur
        into v_segment, v_snap, v_fresh,
          c_generation, c_segment, c_last, c_base, c_pos_xid, c_pos_id, c_floor,
          c_settled, c_settler, c_claimed, c_skips, c_drained, c_prev, c_cur
        from lane_cursors_{{ $i }} as k
        where k.lane = v_lane
        order by k.generation desc
        limit 1;
        -- One more job of an open window, below its oldest transaction in progress: the
        -- bounds are the cursor's own.
        if v_left = 1 {{ if $.limited }}and v_next = 0 {{ end }}and c_segment = v_ring and v_segment = v_ring and not c_drained and c_skips = 0
          and c_pos_xid >= pg_snapshot_xmax(c_prev) and c_pos_xid < pg_snapshot_xmin(c_cur)
          and pg_snapshot_xmax(c_cur) <= pg_snapshot_xmax(v_snap){{ if not $.divert }} and not v_frozen{{ end }}
        then
{{ template "internal/claim_one.sql" (dict "slot" $i "lo_xid" "c_pos_xid" "lo_id" "c_pos_id" "hi_xid" "pg_snapshot_xmin(c_cur)" "moves" true "limited" $.limited) }}
          if {{ if $.limited }}v_next > 0 then
            null;
          elsif {{ end }}pg_snapshot_xmin(c_cur) < pg_snapshot_xmax(c_cur) then
            v_rest := true;
          else
            c_drained := true;
          end if;
        end if;
{{ end }}
      end case;
      if c_generation is null or v_segment <> v_ring then
        perform _enter_ring();
        select g.generation, pg_current_snapshot(), pg_current_xact_id_if_assigned() is null,
          k.generation, k.segment, k.last_segment, k.base_segment, k.pos_xid, k.pos_job_id, k.floor_xid,
          k.settled_segment, k.settled_xid,
          k.claimed_total, k.skips, k.drained, k.s_prev, k.s_cur
        into v_segment, v_snap, v_fresh,
          c_generation, c_segment, c_last, c_base, c_pos_xid, c_pos_id, c_floor,
          c_settled, c_settler, c_claimed, c_skips, c_drained, c_prev, c_cur
        from (select n.generation from segment_rotations as n order by n.generation desc limit 1) as g
        left join lateral (
          select o.* from lane_cursors as o where o.lane = v_lane order by o.generation desc limit 1
        ) as k on true;
      end if;
      v_slot := (v_segment % {{ .segments }})::smallint;
      if not v_fresh then
        v_snap := _hide_own(v_snap);
        -- Others do not see this transaction's own rotation and go on writing into
        -- the segment before it.
        select g.generation into v_segment
        from segment_rotations as g
        where g.generation <= v_segment and g.xid <> pg_current_xact_id_if_assigned()
        order by g.generation desc
        limit 1;
      end if;

      if c_generation is null then
        -- Nothing was ever consumed here: any segment may hold rows.
        c_generation := 0;
        c_base := greatest(v_segment - {{ sub (int .segments) 1 }}, 0);
        c_floor := '0';
        c_claimed := 0;
        c_skips := 0::smallint;
        c_drained := true;
        c_cur := '1:1:';
        v_unseen := true;
      elsif pg_snapshot_xmax(c_cur) > pg_snapshot_xmax(v_snap) then
        raise exception using errcode = 'AW005',
          message = format('queue %L: stored snapshot %s is ahead of this cluster''s %s', claim.queue, c_cur, v_snap),
          hint = 'Transaction ids of another cluster were restored: run rebase() once.';
      end if;
{{- if not .divert }}
      if v_frozen then
        perform _probe_cursor(v_lane, c_generation + 1);
      end if;
{{- end }}

      loop
        if c_drained then
          exit when v_opened;
          -- The next window reads from base_segment on, unless it shows a
          -- transaction below the floor, which may have written anywhere. A
          -- snapshot does not list every transaction that runs: one above
          -- its xmax may be as old. Only a number drawn after the ring was
          -- read is sure to be newer.
          v_opened := true;
          if c_settler <= pg_snapshot_xmax(c_cur) then
            c_base := c_settled;
            c_floor := c_settler;
            c_settled := null;
            c_settler := null;
          end if;
          v_oldest := greatest(v_segment - {{ sub (int .segments) 1 }}, 0);
          v_costly := false;
          if c_base > v_oldest then
            v_costly := pg_snapshot_xmax(c_cur) < least(c_floor, pg_snapshot_xmax(v_snap));
            if not v_costly and pg_snapshot_xmin(c_cur) < least(c_floor, pg_snapshot_xmax(c_cur)) then
              v_costly := exists (
                select from pg_snapshot_xip(c_cur) as x (xid)
                where x.xid < c_floor and pg_visible_in_snapshot(x.xid, v_snap));
            end if;
          end if;
          c_segment := case when v_costly or c_base < v_oldest then v_oldest else c_base end;
          if c_segment = v_oldest and v_oldest < v_segment then
            perform _enter_ring();
          end if;
          c_last := v_segment;
          v_settles := v_fresh and v_segment > coalesce(c_settled, c_base);
          if v_settles then
            c_settled := v_segment;
          end if;
          c_prev := c_cur;
          c_cur := v_snap;
          c_pos_xid := '0';
          c_pos_id := -1;
          c_drained := false;
          if c_skips > 0 then
            c_skips := (c_skips - 1)::smallint;
          end if;
        end if;

        v_got := 0;
        -- The window as disjoint intervals of (xid, job_id): transactions that
        -- were open in s_prev and are visible now, one by one, then everything
        -- above s_prev around those still open. Rows that were consumed, or
        -- may not be seen yet, are never walked.
        v_late := null;
        if c_pos_xid >= pg_snapshot_xmax(c_prev) then
          v_lo_xid := c_pos_xid;
          v_lo_id := c_pos_id;
        else
          v_lo_xid := pg_snapshot_xmax(c_prev);
          v_lo_id := -1;
          if pg_snapshot_xmin(c_prev) < v_lo_xid then
            v_late := nullif(array(
              select x.xid from pg_snapshot_xip(c_prev) as x (xid)
              where x.xid >= c_pos_xid and pg_visible_in_snapshot(x.xid, c_cur)
              order by x.xid), '{}');
          end if;
        end if;
        if v_late is null and v_lo_xid >= pg_snapshot_xmax(c_cur) then
          -- Empty in this segment, and from the start in every one.
          if c_pos_xid = '0' then
            c_segment := c_last;
          end if;
          if c_segment < c_last then
            c_segment := c_segment + 1;
            c_pos_xid := '0';
            c_pos_id := -1;
          else
            c_drained := true;
          end if;
          continue;
        end if;
        -- A first interval without late transactions is read alone: where a
        -- backlog waits it holds enough. Mostly it ends where the window's
        -- oldest transaction in progress is, and those need not be listed.
        v_simple := v_late is null and c_skips = 0 and v_rest is not true;
        v_hi_xid := pg_snapshot_xmin(c_cur);
        if not v_simple or v_lo_xid >= v_hi_xid then
          v_open := null;
          if v_hi_xid < pg_snapshot_xmax(c_cur) then
            v_open := nullif(array(
              select x.xid from pg_snapshot_xip(c_cur) as x (xid)
              where x.xid >= v_lo_xid
              order by x.xid), '{}');
          end if;
          v_hi_xid := coalesce(v_open[1], pg_snapshot_xmax(c_cur));
        end if;
        v_whole := not v_simple or v_hi_xid = pg_snapshot_xmax(c_cur);
        if not v_simple then
          if c_skips > 0 then
            v_skipped := true;
          end if;
          w_lo_xid := v_late || v_lo_xid || v_open;
          -- Two bounds instead of one that includes a job id, as the lower bound does: with
          -- that, all entries of a transaction in progress at the upper end would be walked.
          w_hi_xid := array_fill('18446744073709551615'::xid8, array[coalesce(cardinality(v_late), 0)]) || v_open || pg_snapshot_xmax(c_cur);
          w_to_xid := v_late || array_fill('18446744073709551615'::xid8, array[coalesce(cardinality(v_open), 0) + 1]);
          w_lo_id := array_fill(-1::bigint, array[coalesce(cardinality(v_late), 0)]) || v_lo_id
            || array_fill(9223372036854775807, array[coalesce(cardinality(v_open), 0)]);
          if v_late[1] = c_pos_xid then
            w_lo_id[1] := c_pos_id;
          end if;
        end if;

        if v_simple and v_left = 1{{ if .limited }} and v_next = 0{{ end }} then
          -- One job out of one interval: the leanest way.
          case (c_segment + {{ mul (int .segments) 2 }}) % {{ .segments }}
{{ range $i := until (int .segments) }}
          when {{ $i }} then
{{ template "internal/claim_one.sql" (dict "slot" $i "lo_xid" "v_lo_xid" "lo_id" "v_lo_id" "hi_xid" "v_hi_xid" "moves" false "limited" $.limited) }}
{{ end }}
          end case;
{{- if .limited }}
          continue when v_next > 0;
{{- end }}
          if found then
            case v_slot
{{ range $i := until (int .segments) }}
            when {{ $i }} then
{{ template "internal/claim_moves.sql" $i }}
{{ end }}
            end case;
            v_got := 1;
            v_left := 0;
{{- if .limited }}
            v_stop := true;
{{- end }}
            exit;
          end if;
{{- if .limited }}
        else
{{ template "internal/claim_slots.sql" . }}
        end if;
{{- else }}
        else
          v_take := least(v_left, 1000);
{{- range $simple := list true false }}
          {{ if $simple }}if v_simple then{{ else }}else{{ end }}
          case (c_segment + {{ mul (int $.segments) 2 }}) % {{ $.segments }}
{{ range $i := until (int $.segments) }}
          when {{ $i }} then
            return query
            with got as materialized (
{{ template "internal/claim_window.sql" (dict "slot" $i "simple" $simple) }}
            ),
{{ template "internal/claim_tail.sql" (dict "slot" $i) }};
{{ end }}
          end case;
{{- end }}
          end if;
          get diagnostics v_got = row_count;
        end if;
{{- end }}

        if v_got > 0 then
          c_generation := c_generation + 1;
          c_claimed := c_claimed + v_got;
{{- if not .limited }}
          v_left := v_left - v_got;
{{- end }}
          v_unseen := false;
          if v_settles then
            c_settler := pg_current_xact_id();
            v_settles := false;
            v_fresh := false;
          end if;
          exit when {{ if .limited }}v_stop{{ else }}v_left = 0{{ end }};
          if v_got = v_take then
            -- A full batch, and more is wanted: on from where it ended.
{{- if .limited }}
            c_pos_xid := w_xids[v_got];
            c_pos_id := w_ids[v_got];
{{- else }}
            perform _enter_ring();
            select k.pos_xid, k.pos_job_id into c_pos_xid, c_pos_id
            from lane_cursors as k where k.lane = v_lane and k.generation = c_generation;
{{- end }}
            v_rest := false;
            continue;
          end if;
        end if;
        if not v_whole then
          v_rest := true;
          -- Where this call's own claim left off, for the other intervals.
          if v_got > 0 then
            c_pos_xid := v_hi_xid;
            c_pos_id := -1;
          end if;
          continue;
        end if;
        v_rest := false;
        if c_segment < c_last then
          c_segment := c_segment + 1;
          c_pos_xid := '0';
          c_pos_id := -1;
        else
          c_drained := true;
        end if;
      end loop;

      if v_got = 0 then
        -- Step past jobs that were cancelled or moved once, not at every poll. Not where the ring
        -- has turned since v_snap: a prune may have moved jobs of the window past its end.
        if v_skipped{{ if not .divert }} and not v_frozen{{ end }} then
          insert into lane_cursors (
            lane, generation, segment, last_segment, base_segment, pos_xid, pos_job_id, floor_xid, settled_segment, settled_xid,
            claimed_total, ready_slot, skips, drained, s_prev, s_cur)
          select v_lane, c_generation + 1, c_segment, c_last, c_base, c_pos_xid, c_pos_id, c_floor,
            c_settled, case when v_settles then pg_current_xact_id() else c_settler end,
            c_claimed, v_slot, c_skips, true, c_prev, c_cur
          where not exists (
            select from segment_rotations as g
            where g.generation > v_segment and g.xid is distinct from pg_current_xact_id_if_assigned());
        end if;
        -- Any other empty poll writes nothing, yet the lane is this transaction's now.
        perform set_config('{{ .schema }}.lane', 'held', true);
        -- Without a cursor, the rows themselves tell that they are of another cluster. Nested
        -- conditions, because in one condition the query would be started in any case.
        if v_unseen then
          if exists (
            select from ready_entries as e
            where e.lane = v_lane and (e.xid, e.job_id) > (
              greatest(pg_snapshot_xmax(pg_current_snapshot()), pg_current_xact_id_if_assigned()),
              case when pg_current_xact_id_if_assigned() >= pg_snapshot_xmax(pg_current_snapshot()) then 9223372036854775807 else -1 end))
          then
            raise exception using errcode = 'AW005',
              message = format('queue %L: waiting jobs are of transactions that this cluster has not reached', claim.queue),
              hint = 'Transaction ids of another cluster were restored: run rebase() once.';
          end if;
        end if;
      end if;
    end;
    exit when not v_many;
  end loop;

  if {{ if .limited }}not v_stop{{ else }}v_left > 0{{ end }} and pg_current_xact_id_if_assigned() is not null then
    for r in
      select distinct l.lane, l.priority from queue_lanes as l where l.queue = claim.queue collate "default" order by l.priority, l.lane
    loop
      exit when v_left = 0;
{{- if .limited }}
{{ template "internal/claim_own_slots.sql" . }}
{{- else }}
      return query
      select j.* from _claim_own(claim.queue, r.lane, r.priority, v_left, claim.worker, claim.lease) as j;
      get diagnostics v_got = row_count;
      v_left := v_left - v_got;
{{- end }}
    end loop;
  end if;
{{- if not .limited }}

  if v_rate is not null and v_left < v_asked then
    perform _spend_tokens(claim.queue collate "default", v_rate, v_burst, v_asked - v_left);
  end if;
{{- end }}
