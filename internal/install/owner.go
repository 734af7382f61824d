package install

import "fmt"

// refuseOthers is a statement that fails where a role could make its own code run as
// whoever installs: one that owns the schema, something in it, the version table or the
// function of a trigger there, or may create in the schema. An owner of a schema may put
// anything in the place of what others have there. A superuser has no need of that.
func (o Options) refuseOthers() string {
	return fmt.Sprintf(refuseOthersSQL, o.Schema, o.versionTable())
}

const refuseOthersSQL = `do $owner$
declare
  v_schema oid := to_regnamespace('%[1]s')::oid;
  v_what   text;
  v_role   name;
begin
  select t.what, r.rolname into v_what, v_role
  from (
    select 'schema %[1]s', n.nspowner from pg_namespace as n where n.oid = v_schema
    union all
    select 'schema %[1]s', a.grantee
    from pg_namespace as n
    cross join aclexplode(n.nspacl) as a
    where n.oid = v_schema and a.privilege_type = 'CREATE'
    union all
    select format('table %%s', c.oid::regclass), c.relowner from pg_class as c where c.oid = to_regclass('%[2]s')
    union all
    select format('relation %%s', c.oid::regclass), c.relowner from pg_class as c where c.relnamespace = v_schema
    union all
    select format('function %%s', p.oid::regprocedure), p.proowner from pg_proc as p where p.pronamespace = v_schema
    union all
    select format('trigger %%I of %%s', t.tgname, t.tgrelid::regclass), p.proowner
    from pg_trigger as t
    join pg_class as c on c.oid = t.tgrelid
    join pg_proc as p on p.oid = t.tgfoid
    where not t.tgisinternal and (c.relnamespace = v_schema or c.oid = to_regclass('%[2]s'))
    union all
    select format('operator %%s', p.oid::regoperator), p.oprowner from pg_operator as p where p.oprnamespace = v_schema
  ) as t (what, owner)
  left join pg_roles as r on r.oid = t.owner
  where r.rolname is distinct from current_user and r.rolsuper is not true
  limit 1;
  if found then
    raise exception using errcode = '55000',
      message = format('awa: %%s is in the hands of %%s, and its functions would run as %%s',
        v_what, coalesce(quote_ident(v_role), 'everybody'), quote_ident(current_user)),
      hint = 'Install as the role that owns all of it, or look at what is there and drop or reassign it.';
  end if;
end
$owner$;
`
