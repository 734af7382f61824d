package install

import "fmt"

// refuseWord is a statement that fails where the schema's name, which the templates write
// unquoted, is a word of SQL: which are, the server knows.
func (o Options) refuseWord() string {
	return fmt.Sprintf(refuseWordSQL, o.Schema)
}

const refuseWordSQL = `do $word$
begin
  if exists (select from pg_get_keywords() as k where k.word = '%[1]s' and k.catcode <> 'U') then
    raise exception using errcode = '42939',
      message = 'awa: schema name %[1]s is a word of SQL',
      hint = 'Choose a name that needs no quotes, such as %[1]s_awa.';
  end if;
end
$word$;
`
