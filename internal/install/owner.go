package install

import "fmt"

// becomeOwner goes on, until the transaction ends, as the role that owns what is
// installed. Functions run as their owner: what an upgrade by another role, a superuser
// or a member, adds in its own name is out of their reach, and every call fails.
func (o Options) becomeOwner() string { return fmt.Sprintf(becomeOwnerSQL, o.Schema) }

const becomeOwnerSQL = `do $owner$
declare
  v_owner text := (select pg_get_userbyid(c.relowner) from pg_class as c where c.oid = to_regclass('%[1]s.ready_entries'));
begin
  if v_owner <> current_user then
    perform set_config('role', v_owner, true);
  end if;
end
$owner$;
`
